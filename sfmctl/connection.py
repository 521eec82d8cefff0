"""How the daemon is found: flags, then the environment, then a profile of `~/.config/sfm/profiles.yaml`.

A profile names files that hold secrets, never the secrets; the file must belong to its user alone (0600).
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sfmctl.codes import C

DEFAULT_ADDRESS = "127.0.0.1:50053"
DEFAULT_TIMEOUT_S = 30.0

ENVIRONMENT = {
    "address": "SFM_ADDRESS",
    "ca": "SFM_CA_FILE",
    "token_file": "SFM_TOKEN_FILE",
    "server_name": "SFM_SERVER_NAME",
    "namespace": "SFM_NAMESPACE",
}
"""Which environment variable gives which field of a connection."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One entry of the profile file. Empty means: not said here."""

    address: str = ""
    ca: str = ""
    token_file: str = ""
    server_name: str = ""
    namespace: str = ""
    data_dir: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """What a call to the daemon needs, and where each value came from (flag, environment, profile, default)."""

    address: str
    ca: str
    token_file: str
    token: str = field(repr=False)
    server_name: str
    namespace: str
    timeout_s: float
    profile: str
    sources: Mapping[str, str]


def config_dir(env: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/sfm`, by default `~/.config/sfm`."""
    base = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or Path.home()) / ".config")
    return Path(base) / "sfm"


def data_dir(env: Mapping[str, str]) -> Path:
    """`$SFM_DATA_DIR`, else `$XDG_DATA_HOME/sfm`, by default `~/.local/share/sfm`."""
    if env.get("SFM_DATA_DIR"):
        return Path(env["SFM_DATA_DIR"])
    base = env.get("XDG_DATA_HOME") or str(Path(env.get("HOME") or Path.home()) / ".local" / "share")
    return Path(base) / "sfm"


def profiles_file(env: Mapping[str, str]) -> Path:
    """Where profiles are kept."""
    return config_dir(env) / "profiles.yaml"


def read_profiles(path: Path) -> tuple[str, dict[str, Profile]]:
    """The current profile's name and all profiles; nothing when there is no file.

    Raises a Fault when others may read or write the file, or when it is not what a profile file is.
    """
    import yaml

    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise C.PROFILE.fault(f"{path} may be read by others (mode {mode:04o})", next_step=f"chmod 600 {path}")
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return "default", {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise C.PROFILE.fault(f"{path} cannot be read", why=str(error)) from error
    return _parse(path, content)


def _parse(path: Path, content: Any) -> tuple[str, dict[str, Profile]]:
    known = {f.name for f in fields(Profile)}
    entries = content.get("profiles") if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise C.PROFILE.fault(f"{path} has no mapping `profiles`")
    made = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) - known or not all(isinstance(v, str) for v in entry.values()):
            raise C.PROFILE.fault(
                f"profile {name!r} in {path} is not a mapping of words",
                why=f"known are: {', '.join(sorted(known))}",
            )
        made[str(name)] = Profile(**entry)
    return str(content.get("current") or "default"), made


def write_profile(path: Path, name: str, profile: Profile, *, make_current: bool = True) -> None:
    """Add or replace one profile; the file is replaced as a whole and only its user may read it."""
    import yaml

    current, profiles = read_profiles(path)
    profiles[name] = profile
    entries = {key: {k: v for k, v in asdict(entry).items() if v} for key, entry in sorted(profiles.items())}
    text = yaml.safe_dump({"current": name if make_current else current, "profiles": entries}, sort_keys=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd, draft = tempfile.mkstemp(dir=path.parent, prefix=".profiles-")  # mkstemp makes it 0600
        with os.fdopen(fd, "w") as out:
            out.write(text)
        Path(draft).replace(path)
    except OSError as error:
        raise C.PROFILE.fault(f"{path} cannot be written", why=str(error)) from error


def resolve(
    flags: Mapping[str, str], env: Mapping[str, str], *, profile: str = "", timeout_s: float | None = None
) -> Connection:
    """Put a connection together: flags before environment before profile before defaults.

    The profile file is read only when something still needs it, so that CI with `SFM_*` set needs none.
    """
    wanted = profile or env.get("SFM_PROFILE", "")
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    for name, variable in ENVIRONMENT.items():
        for source, value in (("flag", flags.get(name, "")), ("environment", env.get(variable, ""))):
            if value and name not in values:
                values[name], sources[name] = value, source
    token = env.get("SFM_TOKEN", "")
    if token and sources.get("token_file") != "flag":
        values.pop("token_file", None)
        sources["token_file"] = "environment"  # noqa: S105 - says where it came from
    used = ""
    if wanted or not {"address", "ca"} <= set(values) or not (token or "token_file" in values):
        used, entry = _profile(profiles_file(env), wanted)
        for name in ENVIRONMENT:
            if name not in sources and getattr(entry, name):
                values[name], sources[name] = getattr(entry, name), f"profile {used}"
    if "address" not in values:
        values["address"], sources["address"] = DEFAULT_ADDRESS, "default"
    return Connection(
        address=values["address"],
        ca=values.get("ca", ""),
        token_file=values.get("token_file", ""),
        token=token if sources.get("token_file") == "environment" and "token_file" not in values else "",
        server_name=values.get("server_name", ""),
        namespace=values.get("namespace", ""),
        timeout_s=_timeout(timeout_s, env),
        profile=used,
        sources=sources,
    )


def _profile(path: Path, wanted: str) -> tuple[str, Profile]:
    current, profiles = read_profiles(path)
    name = wanted or current
    if name in profiles:
        return name, profiles[name]
    if wanted:
        have = ", ".join(sorted(profiles)) or "none"
        raise C.PROFILE.fault(f"there is no profile {wanted!r} in {path}", why=f"it has: {have}")
    return "", Profile()


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
