"""The Typer application: the command tree, the global options, and the one error boundary.

Command modules import nothing heavy at module level (no grpc, numpy or kubernetes): `sfmctl --help` stays quick, and a
test holds it to that.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path

import typer

from sfmctl.exits import Exit
from sfmctl.fault import Fault

app = typer.Typer(
    name="sfmctl",
    help="Run the Soma shared-infra playbook, and store and recall memories.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show(fault: Fault) -> None:
    """Print a fault to stderr: what, why, next, code."""
    lines = [f"error: {fault.what}  [{fault.code}]"]
    if fault.why:
        lines.append(f"  why:  {fault.why}")
    if fault.next_step:
        lines.append(f"  next: {fault.next_step}")
    sys.stderr.write("\n".join(lines) + "\n")


def crash_log(error: BaseException) -> Path:
    """Write the traceback of a bug of ours to a private file and return its path."""
    fd, name = tempfile.mkstemp(prefix="sfmctl-crash-", suffix=".log")
    with os.fdopen(fd, "w") as out:
        out.write("".join(traceback.format_exception(error)))
    return Path(name)


def run() -> int:
    """Run the command line and return the exit code; no exception leaves here."""
    try:
        code = app(standalone_mode=False)
        return int(code) if isinstance(code, int) else Exit.OK
    except Fault as fault:
        show(fault)
        return fault.exit
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted\n")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:  # noqa: BLE001 - the one boundary: everything unknown is a bug of ours
        if type(error).__name__ in {"UsageError", "BadParameter", "NoSuchOption", "MissingParameter", "NoArgsIsHelpError"}:
            error.show()  # type: ignore[attr-defined]
            return Exit.USAGE
        path = crash_log(error)
        show(Fault("SFM-CLI-001", f"a bug in sfmctl: {type(error).__name__}", next_step=f"report it with {path}"))
        return Exit.BUG


def main() -> None:
    """Entry point of the `sfmctl` script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
