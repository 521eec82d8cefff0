"""How the daemon is found: flags, then `SFM_*`, then the profile that `sfmctl daemon start` writes.

The profile's form and the client are `sfmd.rpc`'s; here are the command line's own rules: where each value came from is
known and can be shown, a profile that others could change is refused, and one that others can read is warned about.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfmctl import render
from sfmctl.codes import C
from sfmctl.exits import Exit
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from sfmd.rpc.client import CallFailed
    from sfmd.rpc.profile import Profile

FIELDS = ("address", "ca_file", "token_file", "cert_file", "key_file", "server_name", "namespace")
DEFAULT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Connection:
    """What a call to the daemon needs, and where each value came from."""

    profile: Profile
    profile_name: str
    sources: Mapping[str, str]
    timeout_s: float


def data_dir(env: Mapping[str, str]) -> Path:
    """`$SFM_DATA_DIR`, else `$XDG_DATA_HOME/sfm`, by default `~/.local/share/sfm`."""
    if env.get("SFM_DATA_DIR"):
        return Path(env["SFM_DATA_DIR"]).absolute()
    base = env.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "sfm"


def exit_of(code: str) -> Exit:
    """The exit code for one of the daemon's codes: unreachable, out of time, or a typed refusal."""
    from sfmd.errors import E

    if code in {E.NOT_REACHED.code, E.UNTRUSTED.code}:
        return Exit.UNDETERMINED
    return Exit.TIMED_OUT if code == E.DEADLINE.code else Exit.REFUSED


def fault_of(failed: CallFailed, found: Connection | None = None) -> Fault:
    """A failed call as the fault that people see; with the address when the daemon was not reached."""
    from sfmd.errors import CATALOGUE, E

    exit_ = exit_of(failed.code)
    if not failed.request_id and failed.code in {E.NO_TOKEN.code, E.CONFIG.code, E.INVALID.code}:
        exit_ = Exit.USAGE  # found wrong on this side: the daemon was not even asked
    parts = [CATALOGUE[failed.code].title] if failed.code in CATALOGUE else []
    if found is not None and exit_ in {Exit.UNDETERMINED, Exit.TIMED_OUT}:
        parts = [f"the address {found.profile.address} comes from: {found.sources['address']}"]
    parts += [f"request id {failed.request_id}"] if failed.request_id else []
    where = "; ".join(part for part in parts if part not in failed.message)
    todo = failed.next_step
    if found is not None and failed.code == E.NOT_REACHED.code and _named(found.sources["address"]):
        todo = f"check that a daemon listens at {found.profile.address}; sfmctl memory connection shows the settings"
    return Fault(failed.code, failed.message, why=where, next_step=todo, exit_=exit_)


def _named(source: str) -> bool:
    """Whether an address was given by hand: starting the embedded daemon would not make it answer."""
    return source in {"flag", "SFM_ADDRESS"}


def resolve(
    flags: Mapping[str, str], env: Mapping[str, str], *, profile: str = "", timeout_s: float | None = None
) -> Connection:
    """Put a connection together: flags before environment before profile before defaults. Raises a Fault."""
    try:
        from sfmd.rpc.failure import CallFailed
        from sfmd.rpc.profile import load_profile, profile_path
    except ImportError as error:
        raise C.EXTRA.fault("the gRPC client is not installed", why=str(error)) from error

    name = profile or env.get("SFM_PROFILE", "") or "default"
    try:
        path = profile_path(name, env)
        _guard(path)
        of_file = load_profile(profile, {k: v for k, v in env.items() if k in {"XDG_CONFIG_HOME", "SFM_PROFILE"}})
        found = load_profile(profile, env, **{k: flags.get(k, "") for k in FIELDS})
    except CallFailed as failed:
        raise C.PROFILE.fault(failed.message) from failed
    sources = {}
    for field in FIELDS:
        if flags.get(field):
            sources[field] = "flag"
        elif env.get(f"SFM_{field.upper()}"):
            sources[field] = f"SFM_{field.upper()}"
        elif path.exists() and getattr(of_file, field):
            sources[field] = f"profile {name}"
        else:
            sources[field] = "default" if getattr(found, field) else "not set"
    if flags.get("token_file"):
        os.environ.pop("SFM_TOKEN", None)  # the client would prefer it, but a flag comes first
    elif env.get("SFM_TOKEN"):
        sources["token_file"] = "SFM_TOKEN"  # noqa: S105 - says where it came from
    return Connection(found, name if path.exists() else "", sources, _timeout(timeout_s, env))


def _guard(path: Path) -> None:
    """Refuse a profile that others may write, since it says whom we trust; warn when others may read it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise C.PROFILE.fault(f"{path} cannot be read", why=error.strerror or str(error)) from error
    if mode & 0o022:
        raise C.PROFILE.fault(f"others may write {path} (mode {mode:04o})", next_step=f"chmod 600 {path}")
    if mode & 0o077:
        render.note(f"warning: others may read {path} (mode {mode:04o}); chmod 600 {path}  [{C.PROFILE.code}]")


def _timeout(flag: float | None, env: Mapping[str, str]) -> float:
    if flag is not None:
        return flag
    text = env.get("SFM_TIMEOUT")
    if not text:
        return DEFAULT_TIMEOUT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise C.USAGE.fault(f"SFM_TIMEOUT={text} is not a positive number of seconds")
    return seconds
