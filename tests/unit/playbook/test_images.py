"""Images: names that mean the same, the book's list against what the charts render, archive folders."""

import hashlib
import json
from pathlib import Path

import pytest

from playbook.actions import chart
from playbook.actions.images import archive_name, canonical, described, load_archive, read_index, write_index
from playbook.load import packaged
from playbook.shell import ReadShell
from playbook.target import MODES, Target, find_infra
from playbook.trouble import Trouble


@pytest.mark.parametrize(
    ("ref", "means"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:7", "docker.io/library/redis:7"),
        ("lab/redis:7.0", "docker.io/lab/redis:7.0"),
        ("quay.io/coreos/etcd:v3.5.16", "quay.io/coreos/etcd:v3.5.16"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("localhost/a:1", "localhost/a:1"),
        ("redis@sha256:00", "docker.io/library/redis@sha256:00"),
    ],
)
def test_names_that_mean_the_same_are_the_same(ref: str, means: str) -> None:
    assert canonical(ref) == means
    assert canonical(means) == means


def test_an_own_image_is_known_under_another_tag() -> None:
    found = described(packaged(), "soma/pgpool:9.9.9")
    assert (found.source, found.ref) == ("build", "soma/pgpool:9.9.9")
    assert described(packaged(), "lab/redis:7.0").source == "pull"


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("mode", MODES)
def test_the_books_images_are_those_that_the_charts_render(mode: str, tmp_path: Path) -> None:
    target = Target(mode=mode, infra=find_infra(None), cache=tmp_path)
    in_book = {image.ref for image in packaged().images if mode in image.modes}
    assert set(chart.wanted_images(target, ReadShell())) == in_book


def test_the_names_of_archives_do_not_collide() -> None:
    refs = [image.ref for image in packaged().images]
    assert len({archive_name(ref) for ref in refs}) == len(refs)


def test_an_archive_folder_without_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match="SFM-IMG-004"):
        read_index(tmp_path)
    write_index(tmp_path, {})
    with pytest.raises(Trouble, match="SFM-IMG-004"):
        load_archive(ReadShell(), tmp_path, "redis:7", 1)


def test_a_damaged_archive_is_refused_before_docker_sees_it(tmp_path: Path) -> None:
    (tmp_path / "redis.tar").write_bytes(b"not what it was")
    entry = {"file": "redis.tar", "sha256": hashlib.sha256(b"what it was").hexdigest(), "id": "sha256:0"}
    write_index(tmp_path, {canonical("redis:7"): entry})
    assert json.loads((tmp_path / "index.json").read_text())["schemaVersion"] == 1
    with pytest.raises(Trouble, match="SFM-IMG-006"):
        load_archive(ReadShell(), tmp_path, "redis:7", 1)
