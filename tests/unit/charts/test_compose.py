"""The compose stack is the charts' mode dev on one Docker engine: same images, hardened, loopback only, no password."""

import re
import shutil
import subprocess

import pytest
import yaml

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


def test_docker_accepts_it():
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("docker compose is not installed: the file was NOT validated by it")
    done = subprocess.run(["docker", "compose", "--file", str(FOLDER / "compose.yaml"), "config", "--quiet"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
