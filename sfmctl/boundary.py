"""The one error boundary: whatever a command raises becomes a message for people, a stable code and an exit code.

No exception passes it, a bug leaves a crash log behind, and nobody ever sees a traceback for bad input.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import typer

from playbook.shell import CommandFailed
from playbook.trouble import Trouble
from sfmctl import render
from sfmctl.codes import C
from sfmctl.exits import Exit
from sfmctl.fault import Fault

SHOWN_CHARS = 200


def crash_log(error: BaseException) -> Path:
    """Write the traceback of a bug of ours to a file that only this user can read, and return its path."""
    fd, name = tempfile.mkstemp(prefix="sfmctl-crash-", suffix=".log")
    with os.fdopen(fd, "w") as out:
        out.write("".join(traceback.format_exception(error)))
    return Path(name)


def usage(error: typer.TyperException, choice: render.Choice) -> int:
    """A command line that could not be parsed: say so with the help command of the place where it went wrong."""
    if type(error).__name__ == "NoArgsIsHelpError":  # no arguments where some are needed: its message is the help
        sys.stderr.write(error.format_message())
        return Exit.USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sfmctl"
    return report(
        C.USAGE.fault(error.format_message().replace("Value error, ", ""), next_step=f"{command} --help"),
        choice,
    )


def outcome(command: Callable[[render.Choice], object], choice: render.Choice) -> int:
    """Run `command` and return the exit code that it ends with."""
    try:
        code = command(choice)
        # Typer turns ^C into 130 before we see it.
        if code == Exit.INTERRUPTED:
            raise KeyboardInterrupt
        return int(code) if isinstance(code, int) else Exit.OK
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\ninterrupted\n")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return left_by_the_reader()
    except SystemExit as stop:
        # Typer ends so in two cases: after completing for a shell, and (with 1) when the reader of our pipe has left.
        return left_by_the_reader() if stop.code == 1 else Exit.OK
    except typer.TyperException as error:
        return usage(error, choice)
    except Fault as fault:
        return report(fault, choice)
    except (Trouble, CommandFailed) as trouble:
        from sfmctl.playrun import as_fault

        return report(as_fault(trouble), choice)
    except Exception as error:  # noqa: BLE001 - the one boundary: everything unknown is a bug of ours
        return report(unforeseen(error), choice)


def unforeseen(error: Exception) -> Fault:
    """What no command raises on purpose: text that the daemon's protocol cannot carry, or a bug with its crash log."""
    if isinstance(error, UnicodeEncodeError) and _surrogates(error):
        return not_utf8()
    return C.BUG.fault(f"a bug in sfmctl: {type(error).__name__}", next_step=f"report it with {crash_log(error)}")


def _surrogates(error: UnicodeEncodeError) -> bool:
    """Whether the text holds bytes of an argument or a variable that are no UTF-8: Python carries them as these."""
    return all("\ud800" <= c <= "\udfff" for c in error.object[error.start : error.end])


def not_utf8() -> Fault:
    """A word of the command line, or the name of a variable (its value may be a secret), that is no text."""
    words = [word for word in sys.argv[1:] if not _carried(word)]
    names = [f"the value of {name}" for name, value in os.environ.items() if not _carried(value)]
    named = ", ".join([*map(_shown, words), *names]) or "half of a surrogate pair"
    return C.USAGE.fault(f"not UTF-8 text: {named[:SHOWN_CHARS]}")


def _carried(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(word: str) -> str:
    return os.fsencode(word).decode("utf-8", "backslashreplace")


def left_by_the_reader() -> int:
    """The reader of our pipe has what it wanted: no error, and the interpreter's flush at exit must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
    return Exit.OK


def report(fault: Fault, choice: render.Choice) -> int:
    """Print a fault: words to stderr, and with `-o json` one document to stdout. Return its exit code."""
    if (fault.code, fault.next_step) == (C.USAGE.code, C.USAGE.next_step):  # nothing better was known there
        fault.next_step = f"{choice.command} --help"
    render.fault(fault)
    if choice.output is render.Output.JSON:
        render.document("Error", {"error": render.fault_fields(fault)})
    return fault.exit
