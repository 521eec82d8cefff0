"""The profiles that lead to the embedded daemon. Those of other daemons are left as they are."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfmctl import render
from sfmctl.codes import C
from sfmctl.embedded import Place

if TYPE_CHECKING:
    from sfmd.rpc.profile import Profile


def names(place: Place, data_dir: Path) -> list[str]:
    """The profiles that trust this daemon's certificate and name a file of its data directory."""
    from sfmd.rpc.client import CallFailed
    from sfmd.rpc.profile import config_folder, load_profile

    found = []
    for path in sorted((config_folder() / "profiles").glob("*.toml")):
        try:
            profile = load_profile(path.stem, _environment())
        except CallFailed:
            continue  # one that cannot be read leads nowhere
        files = Path(profile.ca_file), Path(profile.token_file)
        if profile.ca_file == place.ca_file and any(file.is_relative_to(data_dir) for file in files):
            found.append(path.stem)
    return found


def _environment() -> dict[str, str]:
    """What says where profiles are, and nothing that overrides what stands in them."""
    return {k: v for k, v in os.environ.items() if k == "XDG_CONFIG_HOME"}


def write(place: Place, name: str) -> str:
    """Write the profile unless it is another daemon's; its name, or empty when it was left alone."""
    from sfmd.rpc.client import CallFailed
    from sfmd.rpc.profile import Profile, load_profile, profile_path, save_profile

    try:
        path = profile_path(name)
        present = load_profile(name, _environment()) if path.exists() else Profile()
        if present.ca_file and not _ours(present, place):
            render.note(
                f"warning: profile {name!r} is another daemon's and was left as it is; --profile NAME writes one"
            )
            return ""
        ours = present.ca_file in ("", place.ca_file)
        kept = present if ours else Profile(namespace=present.namespace)
        made = replace(kept, address=place.address, ca_file=place.ca_file, token_file=_token_file(kept, place))
        if made != present or path.stat().st_mode & 0o077:
            save_profile(made, name)
    except CallFailed as failed:
        raise C.PROFILE.fault(failed.message) from failed
    except OSError as error:
        raise C.PROFILE.fault(f"the profile {name!r} cannot be written", why=str(error)) from error
    return name


def _token_file(kept: Profile, place: Place) -> str:
    """The token file that was set by hand, else the owner's; none, with a warning, where that is not there."""
    if kept.token_file and kept.token_file != place.token_file:
        return kept.token_file
    if Path(place.token_file).exists():
        return place.token_file
    folder = Path(place.token_file).parent
    render.note(
        f"warning: there is no {place.token_file}, so the profile names no token. Name your own with token_file, or:\n"
        f"  (umask 077; sfmd token create --principal owner --verb read --verb write --verb admin --verb purge "
        f"--data-dir {shlex.quote(str(folder))} > {shlex.quote(place.token_file)}) && "
        f"sfmctl daemon start --data-dir {shlex.quote(str(folder))}"
    )
    return ""


def _ours(present: Profile, place: Place) -> bool:
    """Whether a profile points at this data directory, or at one that is gone."""
    return present.ca_file == place.ca_file or not Path(present.ca_file).exists()
