"""Archive folders: an index that is whole or not there, files that are what they were, ids that nodes show."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from playbook.actions import archive
from playbook.actions.archive import Index
from playbook.actions.docker import Local, keeps_in_containerd, only_platform, read_inspected
from playbook.actions.image_names import canonical
from playbook.load import packaged
from playbook.shell import ReadShell
from playbook.trouble import Trouble


def test_the_names_of_archives_do_not_collide() -> None:
    refs = [image.ref for image in packaged().images]
    assert len({archive.archive_name(ref) for ref in refs}) == len(refs)


@pytest.mark.parametrize("content", [None, "not JSON", "[]", "{}"])
def test_a_folder_without_an_index_is_no_archive_folder(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "index.json").write_text(content)
    with pytest.raises(Trouble, match="SFM-IMG-004"):
        archive.read(tmp_path)


def test_an_archive_folder_without_the_image_is_refused(tmp_path: Path) -> None:
    archive.write(tmp_path, Index())
    with pytest.raises(Trouble, match="SFM-IMG-004"):
        archive.load(ReadShell(), tmp_path, "redis:7", 1)


def test_a_damaged_archive_is_refused_before_docker_sees_it(tmp_path: Path) -> None:
    (tmp_path / "redis.tar").write_bytes(b"not what it was")
    entry = {"file": "redis.tar", "sha256": hashlib.sha256(b"what it was").hexdigest(), "id": "sha256:0"}
    archive.write(tmp_path, Index({canonical("redis:7"): entry}))
    assert json.loads((tmp_path / "index.json").read_text())["schemaVersion"] == 1
    with pytest.raises(Trouble, match="SFM-IMG-006"):
        archive.load(ReadShell(), tmp_path, "redis:7", 1)


def test_an_index_keeps_what_images_are_for(tmp_path: Path) -> None:
    written = Index({canonical("kindest/node:v1.33.0"): {"id": "sha256:7"}}, {archive.NODE: "kindest/node:v1.33.0"})
    archive.write(tmp_path, written)
    found = archive.read(tmp_path)
    assert found == written
    assert (found.id_of("kindest/node:v1.33.0"), found.id_of("redis:7")) == ("sha256:7", "")


@pytest.mark.parametrize("config", ["0a1b.json", "blobs/sha256/0a1b"])
def test_the_id_of_a_saved_image_is_its_configurations_digest(tmp_path: Path, config: str) -> None:
    manifest = json.dumps([{"Config": config, "RepoTags": ["redis:7"], "Layers": []}]).encode()
    with tarfile.open(tmp_path / "redis.tar", "w") as out:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        out.addfile(member, io.BytesIO(manifest))
    assert archive.saved_id(tmp_path / "redis.tar") == "sha256:0a1b"


def test_dockers_store_is_told_by_its_own_words() -> None:
    overlay = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]]}
    containerd = {"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
    assert [keeps_in_containerd(said) for said in (overlay, containerd, {"DriverStatus": None})] == [False, True, False]


@pytest.mark.parametrize(
    ("store", "api", "words"),
    [
        ("io.containerd.snapshotter.v1", "1.52", ["--platform", "linux/arm64"]),
        ("io.containerd.snapshotter.v1", "1.48", ["--platform", "linux/arm64"]),
        ("io.containerd.snapshotter.v1", "1.47", []),  # Docker 27 does not know the option
        ("io.containerd.snapshotter.v1", "1.9", []),
        ("extfs", "1.52", []),
    ],
)
def test_of_an_image_for_several_platforms_only_the_engines_is_saved(store: str, api: str, words: list[str]) -> None:
    version = {"Client": {"ApiVersion": api, "Arch": "amd64"}, "Server": {"Os": "linux", "Arch": "arm64"}}
    assert only_platform({"DriverStatus": [["driver-type", store]]}, version) == words


def test_what_docker_has_is_read_by_every_tag() -> None:
    out = (
        '[["redis:7","acme/redis:1"],"sha256:01",null]\n\n[["soma/pgpool:0.1.0"],"sha256:02",{"sh.soma.source":"5a"}]\n'
    )
    found = read_inspected(out + '[null,"sha256:03",{}]\n')
    assert found[canonical("acme/redis:1")] == found[canonical("redis:7")] == Local("sha256:01")
    assert found[canonical("soma/pgpool:0.1.0")] == Local("sha256:02", "5a")
    assert len(found) == 3
