"""Pod Security "restricted" field by field, secrets that are made once and written nowhere, TLS from staging on."""

import base64
import re
import shutil
import subprocess

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from testing.charts import HELM, MODES, Refused, containers, pod_specs

ALL = ("--set", "jaeger.enabled=true", "--set", "qdrant.enabled=true")


@pytest.mark.parametrize("mode", MODES)
def test_every_pod_is_restricted(charts, mode):
    objects = charts.render(mode, *ALL)
    for where, _, spec in pod_specs(objects):
        ctx = spec["securityContext"]
        assert ctx["runAsNonRoot"] is True and ctx["runAsUser"] > 0, where
        assert ctx["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), where
        assert spec["enableServiceLinks"] is False, where
        kinds = {k for v in spec.get("volumes", []) for k in v if k != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir"}, where
    for where, c in containers(objects):
        ctx = c["securityContext"]
        assert ctx["allowPrivilegeEscalation"] is False and ctx["readOnlyRootFilesystem"] is True, where
        assert ctx["capabilities"] == {"drop": ["ALL"]} and ctx["runAsNonRoot"] is True, where
        assert not any("hostPort" in p for p in c.get("ports", [])), where


@pytest.mark.parametrize("mode", MODES)
def test_only_who_must_has_a_token(charts, mode):
    allowed = {"vault", "prometheus"}
    for where, meta, spec in pod_specs(charts.render(mode, *ALL)):
        if spec["automountServiceAccountToken"]:
            assert meta["labels"]["app.kubernetes.io/name"] in allowed, where


@pytest.mark.parametrize("mode", MODES)
def test_rights_in_the_cluster_are_two_and_small(charts, mode):
    objects = charts.render(mode)
    for role in (o for o in objects if o["kind"] in ("ClusterRole", "Role")):
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"}
            assert set(rule["resources"]) <= {"pods", "namespaces"}
    bound = {o["roleRef"]["name"] for o in objects if o["kind"] == "ClusterRoleBinding"}
    assert bound <= {"system:auth-delegator", "soma-infra-sharedinfra-prometheus"}


SECRET_WORDS = re.compile(r"passw|passphrase|secret|token|api.?key", re.I)


def leaves(node, path=""):
    if isinstance(node, dict):
        for k, v in node.items():
            yield from leaves(v, f"{path}.{k}")
    elif isinstance(node, list):
        for v in node:
            yield from leaves(v, path)
    else:
        yield path, node


@pytest.mark.parametrize("file", sorted(HELM.rglob("values*.yaml")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_values_file_holds_a_password(file):
    for path, value in leaves(yaml.safe_load(file.read_text())):
        if SECRET_WORDS.search(path.rsplit(".", 1)[-1]):
            assert value in ("", None, []), f"{path} in {file} has a default"


@pytest.mark.parametrize("mode", MODES)
def test_a_secret_value_stands_in_its_secret_and_nowhere_else(charts, mode):
    objects = charts.render(mode, *ALL)
    values = {
        base64.b64decode(v).decode()
        for o in objects
        if o["kind"] == "Secret"
        for k, v in o["data"].items()
        if not k.endswith(".crt")
    }
    assert len(values) >= 8
    rest = yaml.safe_dump([o for o in objects if o["kind"] != "Secret"])
    for value in values:
        assert len(value) >= 32
        assert value not in rest
    for where, c in containers(objects):
        for e in c.get("env", []):
            literal = SECRET_WORDS.search(e["name"]) and "value" in e
            assert not literal or e["value"].startswith("/"), f"{where} {e['name']}"


@pytest.mark.parametrize("mode", MODES)
def test_generated_secrets_outlive_the_release_as_their_volumes_do(charts, mode):
    made = [o for o in charts.render(mode, *ALL) if o["kind"] == "Secret"]
    assert made
    for o in made:
        assert o["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", o["metadata"]["name"]


def test_chance_enters_only_where_the_cluster_is_asked_first():
    """A random or generated value outside the two places that look into the cluster would change on every upgrade."""
    found = {}
    for file in sorted(HELM.rglob("templates/*")):
        hits = re.findall(r"\b(rand\w+|uuidv4|genCA\w*|genSigned\w+|genSelf\w+|genPrivateKey|now|htpasswd|bcrypt)\b",
                          re.sub(r"\{\{/\*.*?\*/\}\}", "", file.read_text(), flags=re.S))  # fmt: skip
        calls = [h for h in hits if re.search(r"\{\{[^}]*\b" + h + r"\b", file.read_text())]
        if calls:
            found[file.name] = set(calls)
            assert "lookup" in file.read_text()
    assert found == {"_lib.tpl": {"randAlphaNum"}, "tls.yaml": {"genCA", "genSignedCert"}}


@pytest.mark.parametrize("mode", ["dev", "prod"])
def test_two_renders_differ_in_nothing_but_secrets(charts, mode):
    def rest(objects):
        return [o for o in objects if o and o["kind"] != "Secret" and o["metadata"]["name"] != "sharedinfra-ca"]

    again = list(yaml.safe_load_all(charts.text(mode)))
    assert rest(again) == rest(charts.render(mode))
    assert again != charts.render(mode), "without a cluster to look into, secrets are new each time"


@pytest.mark.parametrize("mode", ["staging", "prod-lite", "prod"])
def test_each_certificate_is_signed_by_the_authority_for_the_names_it_is_reached_by(charts, mode):
    objects = charts.render(mode)
    ca_text = charts.one(objects, "ConfigMap", "ca")["data"]["ca.crt"].encode()
    reached = {
        "postgres": ["sharedinfra-postgres.{0}", "sharedinfra-postgres-1.sharedinfra-postgres-hl.{0}"],
        "pgpool": ["sharedinfra-postgres-pgpool.{0}"],
        "redis": ["sharedinfra-redis-master.{0}", "sharedinfra-redis-1.sharedinfra-redis-hl.{0}",
                  "sharedinfra-redis-sentinel-2.sharedinfra-redis-sentinel-hl.{0}"],
        "kafka": ["sharedinfra-kafka.{0}", "sharedinfra-kafka-2.sharedinfra-kafka-hl.{0}"],
        "vault": ["sharedinfra-vault.{0}", "sharedinfra-vault-0.sharedinfra-vault-hl.{0}", "localhost"],
        "etcd": ["sharedinfra-etcd.{0}", "sharedinfra-etcd-1.sharedinfra-etcd-hl.{0}"],
    }  # fmt: skip
    for name, hosts in reached.items():
        data = charts.one(objects, "Secret", f"{name}-tls")["data"]
        cert = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
        for host in (h.format("soma-infra.svc.cluster.local") for h in hosts):
            assert host in dns or f"*.{host.split('.', 1)[1]}" in dns, f"{name}: {host}"
        assert cert.issuer == x509.load_pem_x509_certificate(ca_text).subject
        cert.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_text))
        key = serialization.load_pem_private_key(base64.b64decode(data["tls.key"]), None)
        assert key.public_key().public_numbers() == cert.public_key().public_numbers()


@pytest.mark.parametrize("mode", ["staging", "prod-lite", "prod"])
def test_with_tls_no_server_is_left_speaking_in_clear(charts, mode):
    objects = charts.render(mode)
    for name in ("postgres", "redis", "redis-sentinel", "kafka"):
        (c,) = charts.one(objects, "StatefulSet", name)["spec"]["template"]["spec"]["containers"]
        assert {e["name"]: e.get("value") for e in c["env"]}["TLS_DIR"] == "/tls", name
    (etcd,) = charts.one(objects, "StatefulSet", "etcd")["spec"]["template"]["spec"]["containers"]
    urls = [a for a in etcd["command"] if "-urls=" in a and "metrics" not in a]
    assert len(urls) == 4 and all("=https://" in a for a in urls)


def test_cert_manager_is_used_where_the_cluster_has_it(charts):
    objects = charts.render("staging", "--api-versions", "cert-manager.io/v1")
    issued = {o["spec"]["secretName"] for o in objects if o["kind"] == "Certificate"}
    mounted = {v["secret"]["secretName"] for _, _, s in pod_specs(objects) for v in s.get("volumes", [])
               if v["name"] in ("tls", "ca")}  # fmt: skip
    assert mounted and mounted <= issued
    assert not [o for o in objects if o["kind"] == "Secret" and o["metadata"]["name"].endswith("-tls")]


def test_cert_managers_certificates_live_as_long_as_the_charts_own(charts):
    objects = charts.render("staging", "--set", "global.tls.source=cert-manager,global.tls.days=300")
    specs = [o["spec"] for o in objects if o["kind"] == "Certificate"]
    (authority,) = [spec for spec in specs if spec.get("isCA")]
    for spec in specs:
        if spec is not authority:
            assert (spec["duration"], spec["renewBefore"]) == ("7200h", "2400h")  # 300 days, and a third to restart in
    # what it signs up to its own renewal ends before it does, and its key stays the same
    assert (authority["duration"], authority["renewBefore"]) == ("14400h", "7200h")
    assert authority["privateKey"]["rotationPolicy"] == "Never"


@pytest.mark.parametrize("days", [0, 40000])
def test_a_life_of_certificates_that_nothing_can_have_is_refused(charts, days):
    with pytest.raises(Refused, match="tls/days"):
        charts.text("staging", "--set", f"global.tls.days={days}")


def test_existing_certificates_are_left_alone(charts):
    objects = charts.render("staging", "--set", "global.tls.source=existing")
    assert not [o for o in objects if o["metadata"]["name"].endswith("-tls") or o["kind"] == "Certificate"]


def kafka_key_converter():
    """The function of kafka.sh that wraps an RSA key, as a script of its own that writes where it is told."""
    text = (HELM / "components/kafka/files/kafka.sh").read_text()
    function = re.search(r"^pkcs8\(\) \{.*?^\}", text, re.S | re.M)
    assert function
    return function[0]


@pytest.mark.parametrize("bits", [2048, 3072])
def test_the_key_that_kafka_reads_is_the_key_that_was_made(tmp_path, bits):
    key = rsa.generate_private_key(65537, bits)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (tmp_path / "tls.key").write_bytes(pem)
    script = kafka_key_converter().replace("/run/kafka", str(tmp_path)) + f"\npkcs8 {tmp_path}/tls.key\n"
    shell = shutil.which("dash") or "/bin/sh"
    made = subprocess.run([shell, "-eu", "-c", script], capture_output=True, check=True).stdout
    assert b"BEGIN PRIVATE KEY" in made
    assert serialization.load_pem_private_key(made, None).private_numbers() == key.private_numbers()
    (tmp_path / "again.key").write_bytes(made)
    again = subprocess.run(
        [shell, "-eu", "-c", script.replace("tls.key", "again.key")], capture_output=True, check=True
    )
    assert again.stdout == made


@pytest.mark.parametrize("file", sorted([*HELM.rglob("files/*.sh"), *(HELM.parent / "images").glob("*/soma-*")]),
                         ids=lambda p: p.name)  # fmt: skip
def test_a_script_parses_and_puts_no_secret_on_a_command_line(file):
    text = file.read_text()
    shell = "bash" if text.startswith("#!/usr/bin/env bash") else "sh"
    assert subprocess.run([shell, "-n", str(file)], check=False).returncode == 0
    assert not re.search(r"redis-cli[^\n]* -a\b|PGPASSWORD=|--pass(word)?[ =]", text)
