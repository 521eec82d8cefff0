"""The shell: what an error keeps, where secrets never get to, and what a read-only shell cannot be made to run."""

import sys
import threading
from pathlib import Path

import pytest

from playbook.shell import READS, CommandFailed, ReadShell, Shell
from playbook.trouble import Trouble

PYTHON = [sys.executable, "-c"]
SECRET = "correct-horse-battery"


def test_a_program_that_ends_well_gives_what_it_said() -> None:
    ran = Shell().run([*PYTHON, "import sys; print(sys.stdin.read().upper())"], stdin=b"said")
    assert ran.stdout == "SAID\n"


def test_an_error_keeps_argv_exit_code_output_and_a_line_to_paste() -> None:
    program = "import sys; print('it began'); sys.stderr.write('no room\\n'); sys.exit(7)"
    with pytest.raises(CommandFailed) as caught:
        Shell().run([*PYTHON, program, "an argument"])
    failed = caught.value
    assert failed.exit_code == 7
    assert failed.argv[-1] == "an argument"
    assert (failed.stdout, failed.stderr) == ("it began\n", "no room\n")
    assert failed.line.endswith("'an argument'")
    assert failed.gist == "no room"


def test_a_missing_program_has_its_code() -> None:
    with pytest.raises(Trouble) as caught:
        Shell().run(["no-such-program-of-ours"])
    assert caught.value.code == "SFM-TOOL-001"


@pytest.mark.parametrize(("mode", "content"), [(0o644, b"#!/bin/sh\n"), (0o755, b"\x7fELF, but not quite")])
def test_a_program_that_cannot_be_started_has_its_code(tmp_path: Path, mode: int, content: bytes) -> None:
    program = tmp_path / "kind"
    program.write_bytes(content)
    program.chmod(mode)
    with pytest.raises(Trouble) as caught:
        Shell().run([str(program)])
    assert (caught.value.code, caught.value.next_step) == ("SFM-TOOL-007", f"which -a {program}")


def test_a_program_out_of_time_is_ended_with_its_children() -> None:
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    with pytest.raises(CommandFailed) as caught:
        Shell().run([*PYTHON, child + "print('on', flush=True); time.sleep(600)"], timeout_s=2)
    assert caught.value.timed_out
    assert caught.value.stdout == "on\n"


def test_cancelling_ends_the_program() -> None:
    shell = Shell()
    threading.Timer(0.3, shell.cancelled.set).start()
    with pytest.raises(KeyboardInterrupt):
        shell.run([*PYTHON, "import time; time.sleep(600)"], timeout_s=600)


def test_a_secret_is_taken_out_of_all_that_is_kept() -> None:
    shell = Shell()
    shell.conceal(SECRET)
    lines: list[str] = []
    program = "import os, sys; s = os.environ['S']; print(s); sys.stderr.write('password=' + s + '\\n'); sys.exit(3)"
    with pytest.raises(CommandFailed) as caught:
        shell.run([*PYTHON, program], env={"S": SECRET}, on_line=lines.append)
    assert lines == ["password=***"]
    assert SECRET not in caught.value.stdout + caught.value.stderr + str(caught.value) + caught.value.line


def test_a_secret_among_the_arguments_is_refused_before_anything_starts() -> None:
    shell = Shell()
    shell.conceal(SECRET)
    with pytest.raises(ValueError, match="a secret would be visible"):
        shell.run([*PYTHON, "raise SystemExit(1)", f"--password={SECRET}"])


@pytest.mark.parametrize(
    "argv",
    [
        ["kubectl", "apply", "-f", "x.yaml"],
        ["kubectl", "delete", "namespace", "soma-infra"],
        ["helm", "upgrade", "--install", "sharedinfra", "chart"],
        ["helm", "uninstall", "sharedinfra"],
        ["helm", "rollback", "sharedinfra"],
        ["kind", "create", "cluster"],
        ["kind", "delete", "cluster"],
        ["kind", "load", "docker-image", "x"],
        ["docker", "exec", "soma-control-plane", "rm", "-rf", "/"],
        ["docker", "exec", "soma-control-plane", "crictl", "rmi", "x"],
        ["docker", "build", "."],
        ["docker", "rm", "x"],
        ["sh", "-c", "true"],
    ],
)
def test_a_read_only_shell_starts_nothing_that_changes_something(argv: list[str]) -> None:
    with pytest.raises(PermissionError, match="a read-only run does not start"):
        ReadShell().run(argv)


def test_no_known_read_is_a_verb_that_writes() -> None:
    verbs = {"create", "delete", "apply", "install", "upgrade", "uninstall", "rollback", "load", "run", "rm", "push"}
    assert not [read for read in READS if verbs & set(read[1:])]


def test_a_child_is_cancelled_alone_or_with_its_parent() -> None:
    parent = Shell()
    first, second = parent.child(), parent.child()
    first.cancelled.set()
    with pytest.raises(KeyboardInterrupt):
        first.run([*PYTHON, "import time; time.sleep(600)"], timeout_s=600)
    assert second.run([*PYTHON, "print('on')"]).stdout == "on\n"
    parent.cancelled.set()
    with pytest.raises(KeyboardInterrupt):
        second.run([*PYTHON, "import time; time.sleep(600)"], timeout_s=600)
