"""The reference pages of the protocol and the metrics are made, and equal to what they are made from."""

import subprocess
import sys
from pathlib import Path

import pytest

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
