"""The `sfmd` command line: serve, migrate, check, backup, restore, token. One error boundary, the same exit codes.

Heavy imports stand inside the commands, so that `sfmd --help` is quick and `serve` loads no more than it needs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfmd import exits
from sfmd.errors import E, Refused

if TYPE_CHECKING:
    from sfmd.config import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command; every error becomes a line with a code, and an exit code."""
    try:
        given = parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = given.command
        return command(given)
    except Refused as refused:
        return _refused(refused)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        return exits.OK
    except SystemExit as stop:
        return int(stop.code or 0)
    except OSError as error:  # the place that was given cannot be used, or the disk is full
        where = f"{error.filename} cannot be used" if error.filename else "the system refused an operation"
        return _refused(Refused(E.STORE_DOWN, f"{where}: {error.strerror or type(error).__name__}"))
    except Exception as bug:  # noqa: BLE001 - the one error boundary of this program
        traceback.print_exc()
        tell(f"sfmd: {E.BUG.code} a bug in sfmd: {type(bug).__name__}\n  next: report it with the lines above")
        return exits.BUG


def _refused(refused: Refused) -> int:
    tell(f"sfmd: {refused.code.code} {refused.message}\n  next: {refused.next_step}")
    return exits.exit_code(refused)


def parser() -> argparse.ArgumentParser:
    """The command tree."""
    top = argparse.ArgumentParser(prog="sfmd", description="The memory daemon: exact, durable, over gRPC.")
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings (or SOMA_CONFIG_FILE)")
    common.add_argument("--data-dir", type=Path, metavar="DIR", help="data directory (SOMA_DATA_DIR)")
    shown = argparse.ArgumentParser(add_help=False)
    shown.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print the result")

    def command(name: str, run_it: Callable[[argparse.Namespace], int], words: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:  # fmt: skip  # noqa: E501
        made = commands.add_parser(name, help=words, description=words, parents=[common, *parents])
        made.set_defaults(command=run_it)
        return made

    serve_ = command("serve", serve, "Serve until SIGTERM.")
    serve_.add_argument("--host", help="address of the gRPC port (SOMA_GRPC__HOST)")
    serve_.add_argument("--port", type=int, help="gRPC port, 0 for a free one (SOMA_GRPC__PORT)")
    serve_.add_argument("--http-port", type=int, help="port of health and metrics (SOMA_HTTP__PORT)")
    serve_.add_argument("--log-level", help="debug, info, warning or error (SOMA_LOG__LEVEL)")
    command("migrate", migrate, "Bring the store's schema up to date.", shown)
    command("check", check, "Verify digests, log against state, and segments against the store.", shown)
    _compact(command("compact", compact, "Move the log's horizon and free what lies behind it.", shown))
    command(
        "backup", backup, "Copy the store into a new directory, also while a daemon serves it.", shown
    ).add_argument("target", type=Path)
    command("restore", restore, "Put a backup into an empty data directory.", shown).add_argument(
        "source", type=Path, metavar="SOURCE", help="directory that sfmd backup made"
    )
    _token(commands, common, shown)
    return top


def _compact(made: argparse.ArgumentParser) -> None:
    where = made.add_mutually_exclusive_group(required=True)
    where.add_argument("--horizon", type=int, metavar="SEQ", help="first seq that can still be asked for")
    where.add_argument("--keep-days", type=float, metavar="DAYS", help="keep every state of the last days")
    made.add_argument("--shrink", action="store_true", help="give freed space back to the file system too")


def _token(commands: Any, common: argparse.ArgumentParser, shown: argparse.ArgumentParser) -> None:
    group = commands.add_parser("token", help="Make, revoke and list bearer tokens.").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    create = group.add_parser(
        "create",
        help="Make a token and print it, once.",
        description="Make a token and print it, once.",
        parents=[common, shown],
    )
    create.add_argument("--principal", required=True, help="whose token it is; written into the log")
    create.add_argument("--namespace", action="append", default=[], metavar="PATTERN", help="name or pattern; default: all")  # fmt: skip  # noqa: E501
    create.add_argument(
        "--verb", action="append", default=[], help="read, write, admin, purge; default: read and write"
    )
    create.add_argument("--lifetime-s", type=float, metavar="SECONDS", help="how long it is good; default: for ever")
    create.set_defaults(command=token_create)
    revoke = group.add_parser(
        "revoke",
        help="Revoke a token by key, or all of a principal.",
        description="Revoke a token by key, or all of a principal.",
        parents=[common, shown],
    )
    revoke.add_argument("key", metavar="KEY_OR_PRINCIPAL", help="as sfmd token list shows them")
    revoke.set_defaults(command=token_revoke)
    listed = group.add_parser(
        "list",
        help="List tokens; never a token itself.",
        description="List tokens; never a token itself.",
        parents=[common, shown],
    )
    listed.set_defaults(command=token_list)


def settings_of(given: argparse.Namespace) -> Settings:
    """Settings with what was given by hand on top; `serve` names what is no setting in its log, the others say it."""
    from sfmd.config import load, unknown_variables  # noqa: PLC0415

    for name in unknown_variables(os.environ) if given.command is not serve else ():
        tell(f"sfmd: {name} is no setting: docs/reference/settings.md has them all")
    return load(
        given.config,
        data_dir=given.data_dir,
        grpc={"host": getattr(given, "host", None), "port": getattr(given, "port", None)},
        http={"port": getattr(given, "http_port", None)},
        log={"level": getattr(given, "log_level", None)},
    )


def serve(given: argparse.Namespace) -> int:
    """`sfmd serve`."""
    # gRPC itself would write a line for each failed handshake: anybody who reaches the port could fill the disk.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    gc.disable()  # while modules are loaded: nothing that an import makes is garbage
    try:
        settings = settings_of(given)
        from sfmd.daemon import run as run_daemon  # noqa: PLC0415
    finally:
        gc.enable()
    run_daemon(settings)
    return exits.OK


def migrate(given: argparse.Namespace) -> int:
    """`sfmd migrate`."""
    from sfmd.store.migrate import migrate as migrate_store  # noqa: PLC0415

    before, after = migrate_store(settings_of(given).data_dir)
    words = f"schema {after}" + (" already" if before == after else f", from {before or 'nothing'}")
    show(given, {"before": before, "after": after}, words)
    return exits.OK


def check(given: argparse.Namespace) -> int:
    """`sfmd check`: exit 3 when something is wrong."""
    from sfmd.checking import check_all  # noqa: PLC0415

    report = check_all(settings_of(given))
    text = [f"{report.changes} changes up to seq {report.last_seq}, {report.memories} memories, {report.payload_bytes} payload bytes"]  # fmt: skip  # noqa: E501
    text += [f"segments: {line}" for line in report.segments]
    text += [f"PROBLEM {line}" for line in report.problems]
    show(given, asdict(report), "\n".join([*text, "no problem found" if not report.problems else "damaged"]))
    return exits.CHECK_FAILED if report.problems else exits.OK


def compact(given: argparse.Namespace) -> int:
    """`sfmd compact`."""
    from sfmd.compacting import compact as compact_log  # noqa: PLC0415
    from sfmd.observe import configure_logging  # noqa: PLC0415

    configure_logging("warning")  # to standard error: standard output is the result's alone
    days = given.keep_days
    if days is not None and not 0 <= days <= 1e6:
        raise Refused(E.INVALID, f"--keep-days is {days!r}; give a number of days, 0 or more")
    keep_s = None if days is None else days * 86_400.0
    done = compact_log(settings_of(given), horizon_seq=given.horizon, keep_s=keep_s, smaller=given.shrink)
    words = f"the log reaches back to seq {done.horizon_seq} (before: {done.horizon_before}); "
    words += f"{done.versions} old versions lost their content, the core dropped {done.core_rows} rows"
    show(given, asdict(done), words + (f", the file shrank by {done.freed_bytes} bytes" if given.shrink else ""))
    return exits.OK


def backup(given: argparse.Namespace) -> int:
    """`sfmd backup TARGET`."""
    from sfmd.store.backup import backup as backup_store  # noqa: PLC0415

    made = backup_store(settings_of(given).data_dir, given.target)
    show(given, asdict(made), f"{given.target}: {made.size_bytes} bytes up to seq {made.last_seq}, verified")
    return exits.OK


def restore(given: argparse.Namespace) -> int:
    """`sfmd restore SOURCE`."""
    from sfmd.store.backup import restore as restore_store  # noqa: PLC0415

    folder = settings_of(given).data_dir
    made = restore_store(given.source, folder)
    show(given, asdict(made), f"{folder}: restored up to seq {made.last_seq}, verified")
    return exits.OK


def token_create(given: argparse.Namespace) -> int:
    """`sfmd token create`: the token on standard output, once."""
    verbs = given.verb or ["read", "write"]
    token, record = _tokens(given).create(given.principal, given.namespace or ["*"], verbs, lifetime_s=given.lifetime_s)
    tell(f"key {record.key}: {record.principal} may {', '.join(record.verbs)} in {', '.join(record.namespaces)}")
    show(given, {"key": record.key, "token": token}, token)
    return exits.OK


def token_revoke(given: argparse.Namespace) -> int:
    """`sfmd token revoke KEY_OR_PRINCIPAL`."""
    ended = _tokens(given).revoke(given.key)
    show(given, {"revoked": [r.key for r in ended]}, f"revoked: {', '.join(r.key for r in ended)}")
    return exits.OK


def token_list(given: argparse.Namespace) -> int:
    """`sfmd token list`."""
    now = time.time()
    rows = []
    for r in _tokens(given).records():
        state = "revoked" if r.revoked_s else "expired" if r.expires_s is not None and now >= r.expires_s else "valid"
        rows.append({"key": r.key, "principal": r.principal, "state": state, "verbs": list(r.verbs), "namespaces": list(r.namespaces), "expires_s": r.expires_s})  # fmt: skip  # noqa: E501
    text = [f"{r['key']}  {r['state']:<8} {r['principal']}  {','.join(r['verbs'])}  {','.join(r['namespaces'])}" for r in rows]  # fmt: skip  # noqa: E501
    show(given, {"tokens": rows}, "\n".join(text) or "no token")
    return exits.OK


def _tokens(given: argparse.Namespace) -> Any:
    from sfmd.auth import TokenFile  # noqa: PLC0415

    return TokenFile(settings_of(given).tokens, time.time)


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return f"sfmd {version('soma-fractal-memory')}"


def show(given: argparse.Namespace, record: dict[str, Any], text: str) -> None:
    """The result on standard output, as text or as one JSON document."""
    shown = json.dumps({"schemaVersion": 1, **record}, indent=1) if given.output == "json" else text
    sys.stdout.write(shown + "\n")


def tell(text: str) -> None:
    """Words for people on standard error."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
