"""From options to a target, from trouble to a fault; and every code can be explained offline."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from playbook.load import packaged
from playbook.trouble import Trouble
from sfmctl import app, playrun
from sfmctl.commands.explain import catalogue
from sfmctl.exits import Exit
from sfmctl.fault import Fault

ROOT = Path(__file__).resolve().parents[3]


def test_the_context_is_resolved_once_from_the_clusters_name() -> None:
    aim = playrun.target(cluster="other")
    assert (aim.context, aim.is_kind, aim.may_destroy) == ("kind-other", True, True)
    aim = playrun.target(context="gke_prod")
    assert (aim.is_kind, aim.may_destroy) == (False, False)
    assert playrun.target(context="gke_prod", allow=["gke_*"]).may_destroy


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(Trouble, match="SFM-CLI-020"):
        playrun.target(mode="production")
    with pytest.raises(Trouble, match="SFM-CLI-021"):
        playrun.target(infra=Path("/nowhere"))
    for name in ("", "Bad_Name"):
        with pytest.raises(Trouble, match="SFM-KIND-010"):
            playrun.target(cluster=name)
    with pytest.raises(Fault, match="exclude each other"):
        playrun.target(mirror="registry.example", archive=Path())
    with pytest.raises(Fault, match="KEY=VALUE"):
        playrun.target(build_args=["PYTHON_IMAGE"])


def test_trouble_becomes_a_fault_with_the_books_exit_code_and_command() -> None:
    fault = playrun.as_fault(Trouble("SFM-K8S-001", "it does not answer", why="refused"))
    assert (fault.code, fault.exit, fault.next_step) == (
        "SFM-K8S-001",
        Exit.UNDETERMINED,
        packaged().codes["SFM-K8S-001"].mend,
    )


def test_a_fault_of_a_known_target_is_answered_for_that_target() -> None:
    aim = playrun.target(context="prod-eu", need_infra=False)
    with pytest.raises(Fault) as caught, playrun.translated(aim):
        raise Trouble("SFM-APP-003", "nothing is deployed")
    assert caught.value.next_step == "sfmctl deploy --mode dev --context prod-eu"


def test_every_code_of_the_program_is_known_to_explain() -> None:
    known = catalogue()
    assert set(packaged().codes) <= set(known)
    used = set()
    for folder in ("playbook", "sfmctl"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(re.findall(r"SFM-[A-Z0-9]+-\d{3}", path.read_text()))
    assert used <= set(known), sorted(used - set(known))


def test_every_code_of_the_book_is_raised_somewhere() -> None:
    text = "".join(p.read_text() for f in ("playbook", "sfmctl") for p in (ROOT / f).rglob("*.py"))
    text += "".join((ROOT / "playbook" / "book" / f"{n}.yaml").read_text() for n in ("steps", "checks"))
    unused = [code for code in packaged().codes if code not in text]
    assert unused == []


def test_explain_answers_offline_and_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["explain", "sfm-k8s-006", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["code"] == "SFM-K8S-006"
    assert found["mend"].startswith("sfmctl reset --force-finalizers")
    assert app.run(["explain", "SFM-K8S-999"]) == 2
    assert "SFM-CLI-027" in capsys.readouterr().err
    assert app.run(["explain", "SFM-MEM-001"]) == 0


def test_explain_names_the_exit_code_that_a_refusal_of_the_daemon_ends_with() -> None:
    codes = {code: entry["exitCode"] for code, entry in catalogue().items() if code.startswith("SFM-MEM-")}
    others = {"SFM-MEM-026": Exit.TIMED_OUT, "SFM-MEM-034": Exit.UNDETERMINED, "SFM-MEM-035": Exit.UNDETERMINED}
    assert codes == {code: others.get(code, Exit.REFUSED) for code in codes}


def test_the_playbook_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["playbook", "show", "up", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [p["play"] for p in found["plays"]] == ["up"]
    assert app.run(["playbook", "show", "nothing"]) == 2
    said = capsys.readouterr().err
    assert ("there are cluster-create," in said, "next: sfmctl playbook show" in said) == (True, True), said


def test_a_misuse_that_a_command_finds_ends_with_the_help_of_that_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["images", "preload", "--mirror", "registry.example", "--archive", "."]) == 2
    assert "next: sfmctl images preload --help" in capsys.readouterr().err


@pytest.mark.usefixtures("cluster_tools")
def test_without_a_terminal_nothing_is_done_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(json.dumps({"apiVersion": "v1", "kind": "Config"}))
    assert app.run(["deploy", "--kubeconfig", str(config), "--yes"]) == Exit.UNDETERMINED
    err = capsys.readouterr().err
    assert "SFM-K8S-002" in err


def test_the_commands_load_nothing_heavy_before_they_run() -> None:
    program = (
        "import sys; from sfmctl.app import build; build(); "
        "print([m for m in ('kubernetes', 'grpc', 'numpy', 'hvac', 'yaml', 'confluent_kafka') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
