"""A command ends when its time is over or ^C is pressed, whoever does not answer.

A real server takes connections and says nothing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from playbook.engine import Engine, Hands
from playbook.facts import Observer
from playbook.journal import opened
from playbook.load import packaged
from playbook.model import Plan, Planned, Verdict
from playbook.shell import Shell
from playbook.target import Target
from sfmctl import app
from sfmctl.exits import Exit
from testing.api import silent
from testing.commandline import every_command

PROMPT_S = 6
"""A look at a server that does not answer takes far longer than this."""


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A context that leads to a server that never answers; state and cache are the test's own."""
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with silent(tmp_path / "kubeconfig", "kind-soma"):
        yield tmp_path / "kubeconfig"


def test_a_plan_that_is_being_made_can_be_stopped(kubeconfig: Path) -> None:
    argv = [sys.executable, "-m", "sfmctl.app", "deploy", "--dry-run", "--kubeconfig", str(kubeconfig)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, time.monotonic() - asked < PROMPT_S) == (Exit.INTERRUPTED, True), said


@pytest.mark.parametrize(
    ("command", "code"),
    [(["deploy", "--dry-run"], "SFM-CLI-025"), (["reset", "--yes"], "SFM-CLI-025"), (["status"], "SFM-CLI-011"),
     (["vault", "status"], "SFM-CLI-011"), (["vault", "init"], "SFM-CLI-011")],
)  # fmt: skip
def test_a_command_ends_when_its_time_is_over(
    kubeconfig: Path, capsys: pytest.CaptureFixture[str], command: list[str], code: str
) -> None:
    started = time.monotonic()
    assert app.run([*command, "--timeout", "1", "--kubeconfig", str(kubeconfig)]) == Exit.TIMED_OUT
    assert time.monotonic() - started < PROMPT_S
    assert code in capsys.readouterr().err


def test_no_step_begins_after_the_time_is_over(tmp_path: Path) -> None:
    book, aim = packaged(), Target(state=tmp_path)
    seen = Observer(aim, book, deadline=time.monotonic() - 1)
    hands = Hands(aim, book, seen, Shell(), 0.0, lambda text: None)
    plan = Plan("reset", aim.name, "", (Planned(book.steps["release.remove"], Verdict.DO, "it is there"),))
    with opened(tmp_path, aim.context, "reset") as journal:
        outcomes = Engine(hands, journal, lambda event: None).apply(plan)
    assert [(one.result.value, one.code) for one in outcomes] == [("failed", "SFM-CLI-025")]


def test_every_command_about_a_cluster_takes_a_time_for_the_whole() -> None:
    about_a_cluster = {name: options for name, options in every_command() if options & {"cluster", "context", "yes"}}
    assert len(about_a_cluster) > 20
    assert [name for name, options in about_a_cluster.items() if "timeout" not in options] == []
