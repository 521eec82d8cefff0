"""`sfmctl daemon …`: the embedded daemon of this machine and user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sfmctl import connection, own_profile, render
from sfmctl.codes import C
from sfmctl.embedded import LOG, Embedded, Place, port_is_free, wait
from sfmctl.exits import Exit
from sfmctl.fault import Fault

USUAL = 50053, 9595
"""The ports of gRPC, and of health and metrics."""
SHOWN_LINES = 12

DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="SFM_DATA_DIR", help="Its data; ~/.local/share/sfm when not given."),
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="gRPC port; 50053, or a free one where that is taken."),
]
HttpPortOption = Annotated[
    int | None,
    typer.Option("--http-port", min=0, max=65535, help="Port of health and metrics; 9595, or a free one."),
]
ProfileOption = Annotated[str, typer.Option("--profile", help="The profile to write.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")]
KillOption = Annotated[bool, typer.Option("--kill", help="End it at once (SIGKILL) when it does not stop in time.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command tree."""
    group = typer.Typer(help="Run the memory daemon on this machine.", no_args_is_help=True)
    group.command("start")(start)
    group.command("stop")(stop)
    group.command("restart")(restart)
    group.command("status")(status)
    group.command("logs")(logs)
    app.add_typer(group, name="daemon")


def _embedded(data_dir: Path | None) -> Embedded:
    return Embedded(data_dir.absolute() if data_dir else connection.data_dir(os.environ))


def health(place: Place) -> str:
    """SERVING and the like, or UNREACHABLE with the code."""
    from sfmd.rpc.client import CallFailed, Client, Profile, Timeouts

    try:
        way = Profile(address=place.address, ca_file=place.ca_file, cert_file=os.environ.get("SFM_CERT_FILE", ""),
                      key_file=os.environ.get("SFM_KEY_FILE", ""))  # fmt: skip
        with Client(way, timeouts=Timeouts(call_s=1.0)) as client:
            return client.health()
    except CallFailed as failed:
        return f"UNREACHABLE ({failed.code})"


def start(
    data_dir: DataDirOption = None,
    port: PortOption = None,
    http_port: HttpPortOption = None,
    profile: ProfileOption = "default",
    timeout: TimeoutOption = 60.0,
    output: render.OutputOption = render.Output.TABLE,
) -> None:
    """Start the daemon, wait until it serves, and write the profile that all commands use.

    On the first start it makes its certificate, token and store. A running one is left as it is. Its settings are
    taken from SOMA_… variables.
    """
    place, began = ensure(_embedded(data_dir), _ports(port, http_port, USUAL), timeout)
    _show(
        output, place, "SERVING", note="started" if began else "was running", profile=own_profile.write(place, profile)
    )


def ensure(embedded: Embedded, ports: Sequence[str], timeout_s: float) -> tuple[Place, bool]:
    """A serving daemon, and whether it was started for that. Raises a Fault with the reason when there is none."""
    end_s = time.monotonic() + timeout_s
    try:
        with embedded.alone(timeout_s) as alone:
            if not alone:
                raise C.NOT_UP.late_fault(
                    f"another start of this daemon goes on for more than {timeout_s:g} s",
                    next_step=f"sfmctl daemon logs --data-dir {embedded.data_dir}",
                )
            return _serving(embedded, ports, timeout_s, end_s)
    except OSError as error:
        raise C.NOT_UP.fault(f"{embedded.data_dir} cannot be the data directory", why=error.strerror or str(error),
                             next_step="name another with --data-dir") from error  # fmt: skip


def _serving(embedded: Embedded, ports: Sequence[str], timeout_s: float, end_s: float) -> tuple[Place, bool]:
    child: subprocess.Popen[bytes] | None = None
    if embedded.process() is None:
        other = embedded.place()
        if other is not None and health(other) == "SERVING":
            return other, False  # started by hand, and good
        _certificate_named()
        child = embedded.spawn([*ports], _environment())
    serving: list[Place] = []

    def up() -> bool:
        found = embedded.place()
        if found is not None and health(found) == "SERVING":
            serving.append(found)
        return bool(serving) or _ended(embedded, child)

    came = wait(up, end_s - time.monotonic())
    ours = child is not None and bool(serving) and serving[0].pid == child.pid
    if child is not None and not ours and wait(lambda: child.poll() is not None, end_s - time.monotonic()):
        embedded.forget(child.pid)
    if serving:
        return serving[0], ours
    raise _not_up(embedded, timed_out=not came, timeout_s=timeout_s)


def _certificate_named() -> None:
    """Raises a Fault where the daemon would want a client certificate that we could not show it."""
    wants = os.environ.get("SOMA_TLS__CLIENT_CA_FILE")
    if wants and not (os.environ.get("SFM_CERT_FILE") and os.environ.get("SFM_KEY_FILE")):
        raise C.NOT_UP.fault(
            "the daemon was not started: it would want a client certificate, and none is named",
            why=f"SOMA_TLS__CLIENT_CA_FILE is {wants}; SFM_CERT_FILE and SFM_KEY_FILE are not both set",
            next_step="SFM_CERT_FILE=FILE SFM_KEY_FILE=FILE sfmctl daemon start",
        )


def _ended(embedded: Embedded, child: subprocess.Popen[bytes] | None) -> bool:
    """Whether nobody is left to wait for: not a child that ended because one that was started by hand is coming up."""
    from sfmd.errors import E

    if child is None:
        return embedded.process() is None
    code = child.poll()
    return code is not None and not (code == Exit.USAGE and _last_words(embedded).startswith(E.LOCKED.code))


def _last_words(embedded: Embedded) -> str:
    """The reason that the daemon gave for its end, with its code; empty when it gave none."""
    lines = reversed(embedded.last_lines(SHOWN_LINES))
    return next((line.removeprefix("sfmd: ") for line in lines if line.startswith("sfmd: ")), "")


def _ports(port: int | None, http_port: int | None, usual: tuple[int, int]) -> list[str]:
    """The ports to ask for: what was said, else the usual ones, else any where those are taken."""
    said = "SOMA_GRPC__PORT" in os.environ, "SOMA_HTTP__PORT" in os.environ
    words: list[str] = []
    for flag, given, known, by_setting in (
        ("--port", port, usual[0], said[0]),
        ("--http-port", http_port, usual[1], said[1]),
    ):
        if given is None and by_setting:
            continue
        words += [flag, str(given if given is not None else known if port_is_free(known) else 0)]
    return words


def _ports_of(place: Place | None) -> tuple[int, int]:
    """The ports where a daemon listened; the usual one where it had none."""
    said = (place.address, place.http) if place is not None else ("", "")
    grpc, http = (int(port) if port.isdecimal() else 0 for _, _, port in (words.rpartition(":") for words in said))
    return grpc or USUAL[0], http or USUAL[1]


def _environment() -> dict[str, str]:
    """Ours, with files named from the root, and the semantic embedder switched on where nobody chose another."""
    from importlib.util import find_spec

    # The daemon runs in /, so that it keeps no directory busy: what is relative here would be another file there.
    env = {k: str(Path(v).absolute()) if v and k.startswith("SOMA_") and k.endswith("_FILE") else v
           for k, v in os.environ.items()}  # fmt: skip
    if "SOMA_EMBEDDERS" not in env and not _chosen_in_file(env) and find_spec("wordllama") is not None:
        env["SOMA_EMBEDDERS"] = '["hash-v1", "wordllama"]'
    return env


def _chosen_in_file(env: Mapping[str, str]) -> bool:
    """Whether the configuration file names the embedders; of one that cannot be read the daemon itself says why."""
    try:
        return "embedders" in tomllib.loads(Path(env.get("SOMA_CONFIG_FILE", "")).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _not_up(embedded: Embedded, *, timed_out: bool, timeout_s: float) -> Fault:
    """Why the daemon does not serve, in its own last words."""
    what = f"the daemon does not serve after {timeout_s:g} s" if timed_out else "the daemon ended before it served"
    lines = embedded.last_lines(SHOWN_LINES)
    why = _last_words(embedded) or "the last lines of its log:\n    " + "\n    ".join(lines)
    make = C.NOT_UP.late_fault if timed_out else C.NOT_UP.fault
    return make(what, why=why, next_step=f"sfmctl daemon logs --data-dir {embedded.data_dir}")


def stop(
    data_dir: DataDirOption = None,
    timeout: TimeoutOption = 30.0,
    kill: KillOption = False,
    output: render.OutputOption = render.Output.TABLE,
) -> None:
    """Stop the daemon: it finishes the calls in hand, flushes and closes. No daemon is no error."""
    embedded = _embedded(data_dir)
    stopped = end(embedded, timeout, kill)
    words = "stopped" if stopped else "was not running"
    fields = {"stopped": stopped, "dataDir": str(embedded.data_dir)}
    render.result(output, "DaemonStopped", json_body=lambda: fields, short_rows=lambda: [[words]],
                  tables=lambda: [f"the daemon of {embedded.data_dir} {words}"])  # fmt: skip


def end(embedded: Embedded, timeout_s: float, kill: bool) -> bool:
    """Stop the process that we started; False when there was none. Raises a Fault when it does not stop."""
    process = embedded.process()
    if process is None:
        other = embedded.place()
        if other is not None and health(other) == "SERVING":
            raise C.NOT_DOWN.fault(
                f"pid {other.pid} serves this data directory, and sfmctl did not start it",
                next_step=f"stop it where it was started, or: kill {other.pid}",
            )
        return False
    embedded.signal(process, signal.SIGTERM)
    gone = wait(lambda: embedded.process() is None, timeout_s)
    if not gone and kill:
        embedded.signal(process, signal.SIGKILL)
        gone = wait(lambda: embedded.process() is None, 10.0)
    if not gone:
        raise C.NOT_DOWN.fault(f"the daemon (pid {process.pid}) did not stop within {timeout_s:g} s")
    embedded.forget(process.pid)
    return True


def restart(
    data_dir: DataDirOption = None,
    port: PortOption = None,
    http_port: HttpPortOption = None,
    profile: Annotated[
        str, typer.Option("--profile", help="The profile to write; each that leads to this daemon when not given.")
    ] = "",
    timeout: TimeoutOption = 60.0,
    kill: KillOption = False,
    output: render.OutputOption = render.Output.TABLE,
) -> None:
    """Stop the daemon and start it again, on the ports that it had unless others are given."""
    embedded = _embedded(data_dir)
    before = embedded.announced()
    end(embedded, timeout, kill)
    place, began = ensure(embedded, _ports(port, http_port, _ports_of(before)), timeout)
    names = [profile] if profile else own_profile.names(place, embedded.data_dir) or ["default"]
    written = ", ".join(name for name in names if own_profile.write(place, name))
    _show(output, place, "SERVING", note="started" if began else "was running", profile=written)


def status(data_dir: DataDirOption = None, output: render.OutputOption = render.Output.TABLE) -> None:
    """Say whether the daemon runs and serves, and where. Leaves with 5 when it does not."""
    embedded = _embedded(data_dir)
    place = embedded.place()
    state = health(place) if place is not None else "STARTING" if embedded.process() else "STOPPED"
    _show(output, place, state, data_dir=embedded.data_dir)
    if state != "SERVING":
        raise typer.Exit(Exit.UNDETERMINED)


def _show(
    output: render.Output, place: Place | None, state: str, *, note: str = "", profile: str = "",
    data_dir: Path | None = None,
) -> None:  # fmt: skip
    fields: dict[str, Any] = {"state": state}
    if place is not None:
        fields |= {"address": place.address, "http": place.http, "pid": place.pid, "version": place.version,
                   "caFile": place.ca_file, "tokenFile": place.token_file,
                   "dataDir": str(Path(place.token_file).parent)}  # fmt: skip
    elif data_dir is not None:
        fields["dataDir"] = str(data_dir)
    fields |= {key: value for key, value in (("note", note), ("profile", profile)) if value}
    render.result(
        output,
        "Daemon",
        json_body=lambda: {"daemon": fields},
        short_rows=lambda: [[state, fields.get("address", "")]],
        tables=lambda: [render.table([render.Column("daemon"), render.Column("", fold=True)], list(fields.items()))],
    )


def logs(
    data_dir: DataDirOption = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until ^C.")] = False,
) -> None:
    """Show the end of the daemon's log: JSON, a line for each event."""
    embedded = _embedded(data_dir)
    if not embedded.log.exists():
        raise C.NOT_RUNNING.fault(
            f"there is no {embedded.data_dir / LOG}", why="the daemon was never started by sfmctl"
        )
    for line in embedded.last_lines(lines):
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
    for block in embedded.following() if follow else ():
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        if not block:
            time.sleep(0.25)
