"""The compose stack is the charts' mode dev on one Docker engine: same images, hardened, loopback only, no password."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from playbook.actions import compose
from playbook.engine import Hands
from playbook.facts import Observer
from playbook.load import packaged
from playbook.shell import Shell
from playbook.target import Target
from playbook.trouble import Trouble
from testing.charts import ROOT, containers

FOLDER = ROOT / "infra" / "compose"
STACK = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = STACK["services"]


def default(image):
    """The image without the variable that may replace it."""
    found = re.fullmatch(r"\$\{SOMA_\w+_IMAGE:-(.+)\}", image)
    assert found, f"{image} cannot be replaced"
    return found[1]


def test_it_runs_the_images_of_the_charts(charts):
    used = {default(s["image"]) for s in SERVICES.values()}
    rendered = charts.render("dev", "--set", "jaeger.enabled=true", "--set", "qdrant.enabled=true")
    assert used == {c["image"] for _, c in containers(rendered)}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened_and_on_loopback(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(p.startswith("127.0.0.1:") for p in service.get("ports", []))
    if service.get("user", "").startswith("0"):  # the two that make passwords and owners reach no network
        assert service["network_mode"] == "none"
        assert set(service["cap_add"]) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER"}


def test_what_serves_has_a_health_check_and_its_files_exist():
    for name, service in SERVICES.items():
        if "restart" in service and name != "jaeger":
            assert service["healthcheck"]["test"][0] == "CMD", name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), f"{name} mounts {source}"
            else:
                assert source in STACK["volumes"], f"{name} mounts {source}"


def test_the_project_is_the_same_with_and_without_the_playbook():
    assert f"\nCOMPOSE_PROJECT_NAME={compose.PROJECT}\n" in (FOLDER / ".env").read_text()
    assert "name" not in STACK  # docker-compose 1 refuses it
    assert "name" not in yaml.safe_load((FOLDER / "lab.yaml").read_text())


def test_a_command_to_paste_is_about_the_same_project_and_files():
    lab = FOLDER / "lab.yaml"
    options = compose.options(Target(infra=ROOT / "infra", compose_files=(lab,)))
    hands = Hands(Target(), packaged(), Observer(Target(), packaged()), Shell(), 0.0, print)
    fails = [sys.executable, "-c", "raise SystemExit(1)"]
    with pytest.raises(Trouble, match="SFM-CMP-002") as caught:
        compose.build_own(hands, [*fails, *options])
    assert caught.value.next_step == shlex.join(
        [*fails, "--project-name", "soma-infra", "--file", str(FOLDER / "compose.yaml"), "--file", str(lab), "config"]
    )
    with pytest.raises(Trouble, match="SFM-CMP-001") as caught:
        compose.down(hands, [*fails, *options])
    assert caught.value.next_step == shlex.join([*fails, *options, "down", "--volumes", "--remove-orphans"])


def test_no_password_stands_in_the_file():
    for name, service in SERVICES.items():
        for key in service.get("environment", {}):
            assert not re.search(r"PASSW|TOKEN|API_KEY", key), f"{name} {key}"


def test_passwords_are_made_once(tmp_path):
    script = (FOLDER / "secrets.sh").read_text().replace("/made/", f"{tmp_path}/")
    for name in re.findall(r"^make \S+/(\w+) ", script, re.M):
        (tmp_path / name).mkdir()
    if shutil.which("chown") is None or subprocess.run(["id", "-u"], capture_output=True, check=True).stdout != b"0\n":
        script = script.replace("chown ", ": ")

    def made():
        subprocess.run(["sh", "-c", script], check=True)
        return {p: p.read_text() for p in tmp_path.rglob("*") if p.is_file()}

    first = made()
    assert len(first) == 11
    assert all(len(v) == 32 for v in first.values()) and len(set(first.values())) == len(first)
    assert made() == first


SPECIFICATION = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
PROGRAMS = (["docker", "compose"], ["docker-compose"])


def runs(program):
    return (
        shutil.which(program[0])
        and subprocess.run([*program, "version"], capture_output=True, check=False).returncode == 0
    )


def judges(*paths):
    """Who can judge compose files here: the specification's schema always, and the compose programs that are there."""
    files = [word for path in paths for word in ("--file", str(path))]
    programs = [[*program, *files, "config", "--quiet"] for program in PROGRAMS if runs(program)]
    return [[*SPECIFICATION, *map(str, paths)], *programs]


def test_every_judge_of_this_machine_accepts_it_and_refuses_a_misspelt_one(tmp_path):
    misspelt = tmp_path / "compose.yaml"
    misspelt.write_text((FOLDER / "compose.yaml").read_text().replace("read_only: true", "readonly: true", 1))
    stack, lab = FOLDER / "compose.yaml", FOLDER / "lab.yaml"
    for accept, refuse in zip(judges(stack, lab), judges(misspelt, lab), strict=True):
        done = subprocess.run(accept, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        done = subprocess.run(refuse, capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "readonly" in done.stdout + done.stderr, done.stdout + done.stderr
