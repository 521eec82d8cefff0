"""Where the daemon is and how to prove who one is: a profile file, overridden by `SFM_*`, overridden by arguments.

A profile is a small TOML file, mode 0600, in `~/.config/sfm/profiles/NAME.toml` (XDG_CONFIG_HOME is honoured). It
names files; a token itself stands in its own file, never in the profile.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from sfmd.errors import E
from sfmd.private_file import write_private
from sfmd.rpc.failure import CallFailed

DEFAULT_ADDRESS = "127.0.0.1:50053"


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to reach one daemon. `server_name` is the name in the certificate, if another."""

    address: str = DEFAULT_ADDRESS
    ca_file: str = ""
    token_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    namespace: str = ""

    def token(self, env: Mapping[str, str] = os.environ) -> str:
        """The bearer token: SFM_TOKEN, else what the token file holds. Raises CallFailed(NO_TOKEN)."""
        if env.get("SFM_TOKEN"):
            return env["SFM_TOKEN"].strip()
        if not self.token_file:
            # Not the catalogue's step: a token made before the first start keeps the daemon from making the owner's.
            raise CallFailed(E.NO_TOKEN, "no token is configured: set SFM_TOKEN_FILE or name token_file in the profile",
                             next_step="sfmctl daemon start, or set SFM_TOKEN_FILE=FILE")  # fmt: skip
        text = _read(self.token_file).decode("utf-8", "replace").strip()
        if not text or not text.isascii() or any(c.isspace() for c in text):
            raise CallFailed(E.NO_TOKEN, f"{self.token_file} holds no token")
        return text


def config_folder(env: Mapping[str, str] = os.environ) -> Path:
    """`~/.config/sfm`, or below XDG_CONFIG_HOME."""
    base = env.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "sfm"


def profile_path(name: str, env: Mapping[str, str] = os.environ) -> Path:
    """The file of a profile. Raises CallFailed(CONFIG) for a name that is no file name."""
    if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
        raise CallFailed(E.CONFIG, f"{name!r} is no profile name: letters, digits, - _ . only")
    return config_folder(env) / "profiles" / f"{name}.toml"


def load_profile(name: str = "", env: Mapping[str, str] = os.environ, **given: str) -> Profile:
    """The profile `name` (or SFM_PROFILE, or "default" when it exists), then SFM_*, then what is given and not empty.

    Raises CallFailed(CONFIG) when a named profile is missing, or a file has an unknown key or no TOML.
    """
    asked = name or env.get("SFM_PROFILE", "")
    path = profile_path(asked or "default", env)
    if asked and not path.exists():
        raise CallFailed(E.CONFIG, f"there is no profile {asked!r}: {path} does not exist")
    found = _parse(path) if path.exists() else Profile()
    names = [f.name for f in fields(Profile)]
    of_env = {n: env[f"SFM_{n.upper()}"] for n in names if env.get(f"SFM_{n.upper()}")}
    return replace(found, **{**of_env, **{k: v for k, v in given.items() if v}})


def save_profile(profile: Profile, name: str = "default", env: Mapping[str, str] = os.environ) -> Path:
    """Write a profile, mode 0600, and return its path."""
    path = profile_path(name, env)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A JSON string is a TOML basic string too.
    lines = [f"{f.name} = {json.dumps(getattr(profile, f.name))}" for f in fields(Profile) if getattr(profile, f.name)]
    write_private(path, ("\n".join(lines) + "\n").encode())
    return path


def _parse(path: Path) -> Profile:
    try:
        found = tomllib.loads(_read(str(path)).decode())
    except ValueError as error:
        raise CallFailed(E.CONFIG, f"{path} is no TOML: {error}") from error
    known = {f.name for f in fields(Profile)}
    wrong = sorted(k for k, v in found.items() if k not in known or not isinstance(v, str))
    if wrong:
        raise CallFailed(E.CONFIG, f"{path}: {', '.join(wrong)} is no setting of a profile, or no string")
    return Profile(**found)


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise CallFailed(E.CONFIG, f"cannot read {path}: {error.strerror}",
                         next_step="name a file that is there; sfmctl memory connection shows where the name is from",
                         ) from error  # fmt: skip


def file_stamp(path: str) -> tuple[int, ...]:
    """What changes when a file is replaced or written; nothing when there is none."""
    try:
        found = Path(path).expanduser().stat() if path else None
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size) if found else ()


def read_optional(path: str) -> bytes | None:
    """A file's bytes, or None for no path. Raises CallFailed(CONFIG)."""
    return _read(path) if path else None
