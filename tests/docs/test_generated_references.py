"""The reference pages of the protocol and the metrics are made, and equal to what they are made from."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sfmctl.app import build
from sfmctl.link import SHARED
from sfmd.rpc.gen import memory_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", sorted(p.stem for p in (ROOT / "docs" / "generate").glob("*.py")))
def test_the_page_is_what_its_script_makes(page):
    done = subprocess.run([sys.executable, f"docs/generate/{page}.py", "--check"], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plots_are_what_their_script_draws(tmp_path):
    done = subprocess.run([sys.executable, "docs/plots/score.py", str(tmp_path)], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    drawn = sorted(tmp_path.iterdir())
    assert drawn
    for plot in drawn:
        assert plot.read_bytes() == (ROOT / "docs" / "img" / plot.name).read_bytes(), f"{plot.name}: run `make docs`"


def test_every_method_says_what_it_does():
    rows = [line.split("|") for line in (ROOT / "docs/reference/grpc.md").read_text().splitlines()]
    said = {row[1].strip(" `"): row[5].strip() for row in rows if len(row) == 7 and row[4].strip() in
            ("read", "write", "admin", "purge")}  # fmt: skip
    methods = {m.name for m in pb.DESCRIPTOR.services_by_name["MemoryService"].methods}
    assert set(said) == methods
    assert all(said.values())


def leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its words."""
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from leaves(f"{path} {name}", child)


def test_every_option_of_every_command_is_named_and_none_that_it_lacks():
    page = (ROOT / "docs/reference/commands.md").read_text()
    sections = {part.split("\n")[0]: part for part in page.split("\n## ")}
    top = {"-o", *(f"--{name.replace('_', '-')}" for name in SHARED)}
    for path, command in leaves("sfmctl", typer.main.get_command(build())):
        rows, _, also = sections[path].partition("\nAlso ")
        has = {opt for p in command.params for opt in p.opts if opt.startswith("-") and p.name != "help"}
        by_reference = (
            top - {t for t in top if f"`{t}`" in also} if "connection options" in also else {"--output", "-o"}
        )
        assert {opt for opt in has if f"`{opt}`" not in rows} <= {*by_reference, "-n", "--ca"}, path
        if "connection options" in also:
            assert by_reference <= has, path


def test_every_path_of_the_auxiliary_port_is_named():
    page = (ROOT / "docs/reference/metrics.md").read_text()
    paths = set(re.findall(r'^            "(/[a-z]+)":', (ROOT / "sfmd/http.py").read_text(), re.MULTILINE))
    assert len(paths) > 3
    assert {path for path in paths if f"`{path}`" not in page} == set()
