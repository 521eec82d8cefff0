"""Whatever a command raises ends in words, a code and an exit code."""

import stat
from pathlib import Path

import pytest
import typer

from sfmctl import render
from sfmctl.boundary import outcome
from sfmctl.codes import C
from sfmctl.exits import PRECEDENCE, Exit, worst


def ends(raised: BaseException) -> int:
    def command(_: render.Choice) -> None:
        raise raised

    return outcome(command, render.Choice())


def test_a_bug_leaves_70_and_a_private_crash_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(ZeroDivisionError("division")) == 70
    said = capsys.readouterr().err
    assert "SFM-CLI-001" in said and "Traceback" not in said
    log = Path(said.rpartition("report it with ")[2].strip())
    assert "ZeroDivisionError: division" in log.read_text() and stat.S_IMODE(log.stat().st_mode) == 0o600
    log.unlink()


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (typer.Abort(), 130), (typer.Exit(3), 3), (C.INPUT.fault("x"), 2),
     (C.NOT_UP.fault("x"), 5), (C.NOT_DOWN.fault("x"), 6)],
)  # fmt: skip
def test_each_end_has_its_code(raised: BaseException, code: int) -> None:
    assert ends(raised) == code


def test_a_fault_is_one_document_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    def command(choice: render.Choice) -> None:
        choice.output = render.Output.JSON
        raise C.INPUT.fault("what", why="why", next_step="next")

    assert outcome(command, render.Choice()) == 2
    said = capsys.readouterr()
    assert '"code": "SFM-CLI-003"' in said.out and '"schemaVersion": 1' in said.out
    assert said.err == "error: what  [SFM-CLI-003]\n  why:  why\n  next: next\n"


def test_precedence_is_the_documented_order() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/reference/exit-codes.md").read_text()
    order = [int(code) for code in text.partition("first of this order wins: ")[2].partition(".")[0].split(", ")]
    assert order == [int(code) for code in PRECEDENCE]
    assert worst([Exit.CHANGES, Exit.UNDETERMINED, Exit.CHECK_FAILED]) is Exit.CHECK_FAILED
    assert worst([]) is Exit.OK
    assert {int(code) for code in Exit} == {0, *order}
    assert all(f"| {int(code)} | {code.name} |" in text for code in Exit)
