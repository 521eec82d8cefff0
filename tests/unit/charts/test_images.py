"""The list of images equals what the charts run, in every mode, and our own images keep to their rules."""

import re
import tomllib

import pytest
import yaml

from testing.charts import MODES, ROOT, containers

LIST = yaml.safe_load((ROOT / "playbook" / "book" / "images.yaml").read_text())
OWN = sorted(p.parent for p in (ROOT / "infra" / "images").glob("*/Dockerfile"))


@pytest.mark.parametrize("mode", MODES)
def test_the_list_is_what_the_charts_run(charts, mode):
    rendered = {c["image"] for _, c in containers(charts.render(mode))}
    listed = {i["ref"] for i in LIST if mode in i["modes"]}
    assert listed == rendered


def test_what_is_built_has_a_dockerfile():
    for image in LIST:
        if image["source"] == "build":
            assert (ROOT / image["dockerfile"]).is_file(), image["ref"]
        else:
            assert not image["ref"].startswith("soma/")


@pytest.mark.parametrize("folder", OWN, ids=lambda p: p.name)
def test_an_image_of_ours_runs_as_a_number_that_is_not_root(folder):
    text = (folder / "Dockerfile").read_text()
    users = re.findall(r"^USER (\S+)", text, re.M)
    assert users and re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    base = re.search(r"^ARG (DEBIAN|PYTHON)_IMAGE=(\S+)", text, re.M)
    assert base and base[2] in ("debian:bookworm-slim", "python:3.12-slim")


@pytest.mark.parametrize("name", ["sfmctl", "sfmd"])
def test_what_an_image_installs_is_pinned_by_hash(name):
    text = (ROOT / "requirements" / f"image-{name}.lock").read_text()
    pins = re.findall(r"^[a-z0-9][\w.\-\[\]]*==", text, re.M | re.I)
    assert len(pins) > 5
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]
    assert "--require-hashes" in (ROOT / "infra" / "images" / name / "Dockerfile").read_text()


def test_the_daemon_image_has_its_two_ports():
    assert re.search(r"^EXPOSE 50053 9595$", (ROOT / "infra/images/sfmd/Dockerfile").read_text(), re.M)


@pytest.mark.parametrize(("name", "extras"), [("sfmctl", ("client", "cluster")), ("sfmd", ("daemon",))])
def test_an_image_has_every_dependency_that_the_package_declares(name, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for e in extras for d in project["optional-dependencies"][e])]
    pinned = set(
        re.findall(r"^([\w.\-]+)(?:\[[\w,]+\])?==", (ROOT / f"requirements/image-{name}.lock").read_text(), re.M)
    )
    assert {re.split(r"[\[<>=~!; ]", d)[0] for d in wanted} <= pinned
