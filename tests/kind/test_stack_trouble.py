"""What goes wrong with the stack, and what is said and mended then, in the order in which a person would meet it.

Each test builds on the one before, and all of them on the stack of `test_stack`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
import pytest
import yaml

from playbook.actions.image_names import canonical
from playbook.kube import Writer
from tests.kind.conftest import NAMESPACE, ROOT, Sfmctl, only, outcomes, release_revision

pytestmark = [pytest.mark.kind, pytest.mark.usefixtures("stack")]
RAFT = {"server": "raft", "replicas": 1, "persistence": {"size": "1Gi", "ephemeral": False}}


def test_a_broken_image_stops_early_and_says_why(sfmctl: Sfmctl, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("opa: {image: {repository: registry.invalid/nobody, tag: nothing, pullPolicy: IfNotPresent}}\n")
    ran = sfmctl.run("deploy", *sfmctl.values, "-f", str(values), "--ready-timeout", "600", "--yes", "-o", "json")
    assert ran.code == 3, ran.out + ran.err
    failed = next(one for one in ran.document["outcomes"] if one["result"] == "failed")
    assert failed["code"] == "SFM-IMG-005"
    assert "sharedinfra-opa" in failed["detail"]
    assert "registry.invalid/nobody:nothing" in failed["detail"]
    assert "SFM-IMG-005" in ran.err

    shown = sfmctl.run("status", "-o", "json")
    assert shown.code == 3
    assert any("opa" in w["name"] and w["why"] for w in shown.document["workloads"])
    report = tmp_path / "report.xml"
    verified = sfmctl.run("verify", *sfmctl.values, "--only", "pods.*", "--junit", str(report), "-o", "json")
    assert verified.code == 3
    assert "sharedinfra-opa" in report.read_text()

    back = sfmctl.run("rollback", "--yes", "-o", "json")
    assert back.code == 0, back.out + back.err
    assert sfmctl.run("status", "-o", "json").code == 0


def test_a_release_whose_helm_was_killed_is_mended_only_when_told(sfmctl: Sfmctl, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("opa: {image: {repository: registry.invalid/nobody, tag: nothing, pullPolicy: IfNotPresent}}\n")
    chart = max((sfmctl.home / "cache").glob("sfm/charts/*/soma-infra"), key=lambda path: path.stat().st_mtime)
    mode = ROOT / "infra" / "helm" / "soma-infra" / "values-dev.yaml"
    helm = ["helm", "--kube-context", "kind-soma", "-n", NAMESPACE]
    argv = [*helm, "upgrade", "sharedinfra", str(chart), "-f", str(mode), *sfmctl.values, "-f", str(values), "--wait"]
    before = release_revision()
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 60
        while newest_state(helm) != "pending-upgrade":
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.5)
        running.kill()

    refused = sfmctl.run("up", *sfmctl.values, "--yes")
    assert (refused.code, "SFM-HELM-004" in refused.err, "--recover" in refused.err) == (3, True, True), refused.err
    assert newest_state(helm) == "pending-upgrade"
    verified = sfmctl.run("verify", *sfmctl.values, "--only", "release.deployed", "-o", "json")
    assert (verified.code, "SFM-HELM-004" in verified.out) == (3, True), verified.out

    mended = sfmctl.run("deploy", *sfmctl.values, "--recover", "--yes", "-o", "json")
    assert mended.code == 0, mended.out + mended.err
    freed = next(one["detail"] for one in mended.document["outcomes"] if one["id"] == "release.free")
    assert freed == f"rolled back to revision {before}", freed
    assert outcomes(mended)["release.deploy"] == "changed"
    assert sfmctl.run("verify", *sfmctl.values, "--only", "release.*").code == 0


def newest_state(helm: list[str]) -> str:
    shown = subprocess.run([*helm, "status", "sharedinfra", "-o", "json"], capture_output=True, text=True, check=True)
    return str(json.loads(shown.stdout)["info"]["status"])


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one megabyte; the plain folder for those who may not mount."""
    if os.geteuid() != 0:
        yield tmp_path
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_node_that_lost_an_image_is_found_out(sfmctl: Sfmctl, little_disk: Path) -> None:
    ref = canonical(sfmctl.run("images", "list", *sfmctl.values, "-o", "json").document["images"][0]["ref"])
    node = ["docker", "exec", "soma-control-plane", "ctr", "--namespace", "k8s.io", "images"]
    subprocess.run([*node, "rm", ref], check=True, capture_output=True)
    ran = sfmctl.run("images", "verify", *sfmctl.values, "-o", "json")
    assert ran.code == 3, ran.out
    found = next(c for c in ran.document["checks"] if c["id"] == "images.nodes")
    assert found["hint"].startswith("SFM-IMG-002")
    if os.geteuid() == 0:  # mounting needs root
        full = sfmctl.run("images", "preload", *sfmctl.values, "--yes", TMPDIR=str(little_disk))
        assert (full.code, "SFM-TOOL-005" in full.err) == (3, True), full.err
    again = sfmctl.run("images", "preload", *sfmctl.values, "--yes", "-o", "json")
    assert again.code == 0, again.err
    assert outcomes(again)["images.preload"] == "changed"
    assert sfmctl.run("images", "verify", *sfmctl.values, "-o", "json").code == 0


def test_an_image_comes_from_an_archive_folder_when_there_is_nothing_else(sfmctl: Sfmctl, tmp_path: Path) -> None:
    images = sfmctl.run("images", "list", *sfmctl.values, "-o", "json").document["images"]
    opa = next(image["ref"] for image in images if "opa" in image["ref"])
    subprocess.run(["docker", "tag", opa, "acme/opa:1"], check=True)
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(only("opa") | {"opa": {"image": {"repository": "acme/opa", "tag": "1"}}}))
    mine = ["-f", str(values)]
    bundle = ["images", "bundle", str(tmp_path / "bundle"), "--charts-only"]
    made = sfmctl.run(*bundle, *sfmctl.values, *mine, "-o", "json")
    assert made.code == 0, made.err
    assert [image["ref"] for image in made.document["images"]] == ["acme/opa:1"]
    subprocess.run(["docker", "rmi", "acme/opa:1"], check=True, capture_output=True)

    absent = sfmctl.run("images", "preload", *sfmctl.values, *mine, "--yes")
    assert (absent.code, "SFM-IMG-001" in absent.err) == (3, True), absent.err
    archive = ["--archive", str(tmp_path / "bundle")]
    ran = sfmctl.run("images", "preload", *sfmctl.values, *mine, *archive, "--yes", "-o", "json")
    assert ran.code == 0, ran.err
    again = sfmctl.run("images", "preload", *sfmctl.values, *mine, *archive, "--yes", "-o", "json")
    assert (again.code, again.document["changed"]) == (0, 0), again.err

    other = next(image["ref"] for image in images if "redis" in image["ref"])
    subprocess.run(["docker", "tag", other, "acme/opa:1"], check=True)
    assert sfmctl.run(*bundle, *sfmctl.values, *mine).code == 0
    subprocess.run(["docker", "tag", opa, "acme/opa:1"], check=True)  # Docker and node have the build before
    anew = sfmctl.run("images", "preload", *sfmctl.values, *mine, *archive, "--yes", "-o", "json")
    assert (anew.code, anew.document["changed"]) == (0, 1), anew.err
    subprocess.run(["docker", "rmi", "acme/opa:1"], check=True, capture_output=True)


def test_what_is_wrong_before_the_start_is_said_with_its_code(sfmctl: Sfmctl, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("opa: {replicaz: 2}\n")
    ran = sfmctl.run("deploy", *sfmctl.values, "-f", str(wrong), "--yes")
    assert (ran.code, "SFM-HELM-001" in ran.err, "replicaz" in ran.err) == (2, True, True), ran.err
    ran = sfmctl.run("deploy", "--mode", "production", "--yes")
    assert (ran.code, "SFM-CLI-020" in ran.err) == (2, True), ran.err
    ran = sfmctl.run("deploy", "-f", str(tmp_path / "absent.yaml"), "--yes")
    assert (ran.code, "SFM-CLI-028" in ran.err) == (2, True), ran.err
    ran = sfmctl.run("deploy", "--context", "nowhere", *sfmctl.values, "--yes")
    assert (ran.code, "SFM-K8S-002" in ran.err) == (5, True), ran.err
    ran = sfmctl.run("cluster", "create", "--yes", "--infra", str(other_ports(tmp_path)))
    assert (ran.code, "SFM-KIND-003" in ran.err) == (3, True), ran.err


def other_ports(tmp_path: Path) -> Path:
    """An infra folder whose cluster would have another port mapping than the one that runs."""
    made = tmp_path / "infra"
    shutil.copytree(ROOT / "infra" / "kind", made / "kind")
    (made / "helm").mkdir()
    config = made / "kind" / "soma-kind.yaml"
    content = yaml.safe_load(config.read_text())
    content["nodes"][0]["extraPortMappings"].append({"containerPort": 30999, "hostPort": 30999})
    config.write_text(yaml.safe_dump(content))
    return made


def test_a_user_without_rights_is_told_so(sfmctl: Sfmctl, api: Writer, tmp_path: Path) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody", "namespace": "default"}}
    api.apply("/api/v1/namespaces/default/serviceaccounts/nobody", account)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = api.create("/api/v1/namespaces/default/serviceaccounts/nobody/token", asked)["status"]["token"]
    raw = subprocess.run(
        ["kubectl", "--context", "kind-soma", "config", "view", "--raw", "--minify"], capture_output=True, check=True
    )
    config = yaml.safe_load(raw.stdout)
    config["users"][0]["user"] = {"token": token}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    ran = sfmctl.run("deploy", *sfmctl.values, "--kubeconfig", str(path), "--yes")
    assert (ran.code, "SFM-K8S-003" in ran.err) == (5, True), ran.err
    assert token not in ran.err + ran.out
    assert release_revision() > 0


def test_a_paused_api_server_is_not_taken_for_an_empty_cluster(sfmctl: Sfmctl) -> None:
    subprocess.run(["docker", "pause", "soma-control-plane"], check=True, capture_output=True)
    try:
        ran = sfmctl.run("verify", *sfmctl.values, "--only", "pods.ready", "-o", "json")
        assert ran.code == 5, ran.out + ran.err
        checks = {c["id"]: c for c in ran.document["checks"]}
        assert checks["cluster.api"]["status"] == "error"
        assert checks["pods.ready"]["status"] == "skip"
        assert checks["pods.ready"]["observed"] == "because of cluster.api"
        stopped = sfmctl.run("deploy", *sfmctl.values, "--yes")
        assert stopped.code == 5, stopped.err
        assert "SFM-K8S-001" in stopped.err
    finally:
        subprocess.run(["docker", "unpause", "soma-control-plane"], check=True, capture_output=True)


def test_reset_names_what_blocks_the_namespace_and_clears_it_only_when_told(sfmctl: Sfmctl, api: Writer) -> None:
    stuck = {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "stuck", "namespace": NAMESPACE, "finalizers": ["soma.sh/never"]},
    }  # fmt: skip
    api.apply(f"/api/v1/namespaces/{NAMESPACE}/configmaps/stuck", stuck)
    ran = sfmctl.run("reset", "--wait", "45", "--yes", "-o", "json")
    assert ran.code == 3, ran.out + ran.err
    failed = next(one for one in ran.document["outcomes"] if one["result"] == "failed")
    assert failed["code"] == "SFM-K8S-006"
    assert "ConfigMap stuck (finalizers: soma.sh/never)" in failed["detail"]

    refused = sfmctl.run("deploy", *sfmctl.values, "--yes")
    assert (refused.code, "SFM-K8S-006" in refused.err) == (3, True), refused.err

    forced = sfmctl.run("reset", "--force-finalizers", "--yes", "-o", "json")
    assert forced.code == 0, forced.out + forced.err
    assert api.get(f"/api/v1/namespaces/{NAMESPACE}") is None
    again = sfmctl.run("reset", "--yes", "-o", "json")
    assert again.code == 0, again.err
    assert again.document["changed"] == 0


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody to encrypt Vault's keys for: the options that name them, ones that cannot work, and how they read."""

    options: list[str]
    wrong: list[str]
    read: Callable[[Path], dict[str, Any]]


def by_age(tmp_path: Path) -> Recipient:
    identity = pyrage.x25519.Identity.generate()
    options, wrong = ["--age", str(identity.to_public())], ["--age", "age1nonsense"]
    return Recipient(options, wrong, lambda path: dict(json.loads(pyrage.decrypt(path.read_bytes(), [identity]))))


def by_pgp(tmp_path: Path) -> Recipient:
    """A key pair in a keyring of its own; Vault gets the public key armoured and in binary form, in turn."""
    ring = tmp_path / "gnupg"
    ring.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(ring), "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "a@example.org", "rsa2048", "encr", "never"], check=True)
    forms = {"key.asc": ["--armor", "--export"], "key.gpg": ["--export"]}
    for name, how in forms.items():
        (tmp_path / name).write_bytes(subprocess.run([*gpg, *how], check=True, capture_output=True).stdout)
    (tmp_path / "wrong.asc").write_text("this is no key\n")

    def clear(text: str) -> str:
        done = subprocess.run([*gpg, "--decrypt"], input=base64.b64decode(text), check=True, capture_output=True)
        return done.stdout.decode()

    def read(path: Path) -> dict[str, Any]:
        found = json.loads(path.read_text())
        opened = {"unseal_keys": [clear(s) for s in found["unseal_keys"]], "root_token": clear(found["root_token"])}
        subprocess.run(["gpgconf", "--homedir", str(ring), "--kill", "all"], check=True)
        return opened

    options = [word for name in forms for word in ("--pgp", str(tmp_path / name))]
    return Recipient(options, ["--pgp", str(tmp_path / "wrong.asc")], read)


@pytest.mark.parametrize("recipient", [by_age, by_pgp])
def test_a_vault_that_has_to_be_opened_says_so_and_is_opened(
    sfmctl: Sfmctl, tmp_path: Path, recipient: Callable[[Path], Recipient]
) -> None:
    who = recipient(tmp_path)
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(only("vault") | {"vault": RAFT, "global": {"tls": {"enabled": True}}}))
    mine = [*sfmctl.values, "-f", str(values)]
    ran = sfmctl.run("deploy", *mine, "--yes", "-o", "json")
    assert ran.code == 3, ran.out + ran.err
    failed = next(one for one in ran.document["outcomes"] if one["result"] == "failed")
    assert (failed["code"], "not initialised" in failed["detail"]) == ("SFM-VLT-001", True)
    assert sfmctl.run("vault", "status").code == 3

    sealed = tmp_path / "keys"
    init = ["vault", "init", "--shares", "3", "--threshold", "2", "--out", str(sealed), "-o", "json"]
    wrong = sfmctl.run(*init, *who.wrong)
    assert (wrong.code, "SFM-VLT-005" in wrong.err, sealed.exists()) == (2, True, False), wrong.err
    made = sfmctl.run(*init, *who.options)
    assert made.code == 0, made.err
    keys = who.read(sealed)
    secret = (*keys["unseal_keys"], keys["root_token"])
    assert not [key for key in secret if key in made.out + made.err]
    sealed.unlink()
    assert sfmctl.run(*init, *who.options).code == 2

    short = sfmctl.run("vault", "unseal", "--timeout", "5", stdin=keys["unseal_keys"][0])
    assert (short.code, "SFM-VLT-004" in short.err) == (3, True), short.err
    opened = sfmctl.run("vault", "unseal", "-o", "json", stdin="\n".join(keys["unseal_keys"]))
    assert opened.code == 0, opened.err
    assert [node["sealed"] for node in opened.document["nodes"]] == [False]

    tokenless = sfmctl.run("deploy", *mine, "--yes", "-o", "json")
    assert (tokenless.code, outcomes(tokenless)["vault.auth"]) == (5, "failed"), tokenless.err
    assert "SFM-VLT-010" in tokenless.err
    off = sfmctl.run("verify", *mine, "--only", "vault.*", "-o", "json")
    assert (off.code, "SFM-VLT-019" in off.out) == (3, True), off.out
    assert sfmctl.run("deploy", *mine, "--yes", VAULT_TOKEN=keys["root_token"]).code == 0
    assert sfmctl.run("deploy", *mine, "--yes", "-o", "json").document["changed"] == 0, "no token is needed any more"
    verified = sfmctl.run("verify", *mine, "--only", "vault.*")
    assert (verified.code, "Warning" in verified.err) == (0, False), verified.err
    for path in (sfmctl.home / "state").rglob("*"):
        text = path.read_text() if path.is_file() else ""
        assert not [key for key in secret if key in text], path
    assert sfmctl.run("reset", "--yes").code == 0
