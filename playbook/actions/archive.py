"""An archive folder: images as files with an index of their digests, for a machine that reaches no registry.

The index also says which image the cluster's nodes are made of and which one the Jobs inside run: the charts name
neither.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playbook.actions import docker
from playbook.actions.image_names import canonical, held_as
from playbook.shell import CommandFailed, Shell
from playbook.trouble import Trouble

INDEX = "index.json"
NODE, JOBS = "node", "jobs"
"""What an image is for that the charts do not name."""


@dataclass(slots=True)
class Index:
    """What a folder holds: canonical reference to file, SHA-256 and ids; and images by what they are for."""

    images: dict[str, dict[str, str]] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)

    def id_of(self, ref: str) -> str:
        """The id that a node shows for an image of the folder; empty when the folder lacks it."""
        return self.images.get(canonical(ref), {}).get("id", "")


def archive_name(ref: str) -> str:
    """The file name of an image in an archive folder."""
    return canonical(ref).replace("/", "_").replace(":", "_").replace("@", "_") + ".tar"


def read(folder: Path) -> Index:
    """The index of an archive folder."""
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return Index(dict(found["images"]), dict(found.get("roles", {})))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Trouble("SFM-IMG-004", f"{folder} is no archive folder", why=f"{INDEX}: {error}") from error


def write(folder: Path, index: Index) -> None:
    """Replace the index as a whole, so that an interrupted bundle is never taken for a complete one."""
    partial = folder / f"{INDEX}.part"
    content = {"schemaVersion": 1, "images": index.images, "roles": index.roles}
    partial.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
    partial.rename(folder / INDEX)


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def saved_id(path: Path) -> str:
    """The id of the image in an archive: the digest of its configuration, which is what a node shows.

    Docker's own id is another one where it keeps images in containerd's store.
    """
    with tarfile.open(path) as saved:
        manifest: Any = saved.extractfile("manifest.json")
        config = Path(json.load(manifest)[0]["Config"])
    return f"sha256:{config.stem}"


def load(shell: Shell, folder: Path, ref: str, timeout_s: float) -> None:
    """Load one image of an archive folder into the local Docker, after its digest was compared."""
    entry = read(folder).images.get(canonical(ref))
    path = folder / entry["file"] if entry else None
    if entry is None or path is None or not path.is_file():
        raise Trouble("SFM-IMG-004", f"the archive folder lacks {ref}")
    if sha256(path) != entry["sha256"]:
        raise Trouble("SFM-IMG-006", f"the archive {path.name} is damaged")
    try:
        shell.run(["docker", "load", "--quiet", "--input", str(path)], timeout_s=timeout_s)
    except CommandFailed as failed:
        code = "SFM-TOOL-005" if "no space left" in failed.stderr else "SFM-IMG-006"
        raise Trouble(code, f"the archive {path.name} could not be loaded", why=failed.gist) from failed


def save(
    shell: Shell,
    folder: Path,
    refs: Iterable[str],
    roles: Mapping[str, str],
    tell: Callable[[str], None],
    left_s: Callable[[], float],
) -> Index:
    """Write images of the local Docker into an archive folder, and its index; complete ones are kept."""
    refs = list(refs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = read(folder) if (folder / INDEX).exists() else Index()
        local = docker.inspected(shell, refs)
        for ref in refs:
            path, known = folder / archive_name(ref), index.images.get(canonical(ref), {})
            if known.get("local") == local[ref].id and path.is_file() and sha256(path) == known["sha256"]:
                continue
            tell(f"writing {path.name}")
            partial = path.with_suffix(".part")
            docker.save(shell, [held_as(ref)], partial, left_s())
            partial.rename(path)
            index.images[canonical(ref)] = {
                "file": path.name, "sha256": sha256(path), "id": saved_id(path), "local": local[ref].id
            }  # fmt: skip
            write(folder, index)
        index.roles |= roles
        write(folder, index)
    except OSError as error:
        raise Trouble("SFM-CLI-029", f"{folder} cannot be written", why=str(error)) from error
    except CommandFailed as failed:
        raise Trouble("SFM-CLI-029", f"{folder} cannot be written", why=failed.told) from failed
    return index
