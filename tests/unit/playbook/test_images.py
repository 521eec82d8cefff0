"""Images: names that mean the same, the book's list against what the charts render, and which build is meant."""

import tempfile
from pathlib import Path

import pytest

from playbook.actions import archive, chart
from playbook.actions.archive import Index
from playbook.actions.docker import Local
from playbook.actions.image_names import canonical, held_as, mirrored
from playbook.actions.images import arrived, carried, described, listed, load, load_code, meant, source_label, to_fetch
from playbook.engine import Hands
from playbook.facts import Observer
from playbook.load import packaged
from playbook.model import Image
from playbook.shell import CommandFailed, ReadShell, Shell
from playbook.target import MODES, ImageSource, Target, find_infra
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


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("redis:7", "redis:7"),
        ("lab/redis@sha256:0a1b", "lab/redis:sha256-0a1b"),
        ("localhost:5000/a/b@sha256:0a1b", "localhost:5000/a/b:sha256-0a1b"),
        ("redis:7@sha256:0a1b", "redis:sha256-0a1b"),
    ],
)
def test_a_digest_is_held_as_a_tag(ref: str, name: str) -> None:
    assert held_as(ref) == name


@pytest.mark.parametrize(
    ("ref", "there"),
    [
        ("redis:7", "m.example/p/library/redis:7"),
        ("quay.io/coreos/etcd:v3.5.16", "m.example/p/coreos/etcd:v3.5.16"),
        ("lab/redis@sha256:0a1b", "m.example/p/lab/redis@sha256:0a1b"),
    ],
)
def test_a_mirror_has_an_image_under_its_own_path(ref: str, there: str) -> None:
    assert mirrored(ref, "m.example/p") == mirrored(ref, "m.example/p/") == there


def test_an_own_image_is_known_under_another_tag() -> None:
    found = described(packaged(), "soma/pgpool:9.9.9")
    assert (found.source, found.ref) == ("build", "soma/pgpool:9.9.9")
    assert described(packaged(), "lab/redis:7.0").source == "pull"
    assert described(packaged(), "soma/pgpool@sha256:0a1b").source == "pull"  # no build has a digest beforehand


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("mode", MODES)
def test_the_books_images_are_those_that_the_charts_render(mode: str, tmp_path: Path) -> None:
    target = Target(mode=mode, infra=find_infra(None), cache=tmp_path)
    in_book = {image.ref for image in packaged().images if mode in image.modes}
    assert set(chart.wanted_images(target, ReadShell())) == in_book


NODE = {
    "images": [
        {"id": "sha256:01", "repoTags": ["docker.io/library/redis:7"], "repoDigests": None},
        {"id": "sha256:02", "repoTags": [], "repoDigests": ["docker.io/lab/opa@sha256:0a1b"]},
    ]
}
"""What `crictl images -o json` says, cut to what is read."""


def test_a_node_has_images_by_tag_and_by_digest() -> None:
    have = listed(NODE)
    assert have[canonical("redis:7")] == "sha256:01"
    assert have[canonical("lab/opa@sha256:0a1b")] == "sha256:02"


OLD, NEW = Local("sha256:01", "source 1"), Local("sha256:02", "source 2")
INDEX = Index({canonical("redis:7"): {"file": "redis.tar", "sha256": "", "id": "sha256:02"}})


def fits(build: Local, there: str = "sha256:01") -> bool:
    """Whether a node's id fits; the shell would be asked for a label, and can start nothing."""
    return arrived(ReadShell(env={"PATH": ""}), "node", there, build)


def test_a_new_archive_with_the_same_tag_is_meant_and_fetched_although_the_old_build_is_everywhere() -> None:
    refs, image = ["redis:7"], Image("redis:7", "", "pull", ())
    assert fits(meant(refs, {"redis:7": OLD}, None, in_containerd=False)["redis:7"])
    assert not fits(meant(refs, {"redis:7": OLD}, INDEX, in_containerd=False)["redis:7"])
    assert to_fetch([image], {"redis:7": OLD}, None) == []
    assert to_fetch([image], {"redis:7": OLD}, INDEX) == [image]
    assert to_fetch([image], {"redis:7": NEW}, INDEX) == []


def test_a_build_that_was_made_anew_is_found_out_by_its_id() -> None:
    assert not fits(meant(["redis:7"], {"redis:7": NEW}, None, in_containerd=False)["redis:7"])
    assert not fits(Local(""), there="")
    assert fits(meant(["redis:7"], {}, None, in_containerd=False)["redis:7"])  # not local: what is there counts


def test_dockers_containerd_store_has_other_ids_so_the_label_of_the_source_decides() -> None:
    assert meant(["redis:7"], {"redis:7": OLD}, None, in_containerd=True) == {"redis:7": Local("", "source 1")}
    assert fits(meant(["redis:7"], {"redis:7": Local("sha256:99")}, None, in_containerd=True)["redis:7"])
    answer = {"info": {"imageSpec": {"config": {"Labels": {"sh.soma.source": "source 1"}}}}}
    assert source_label(answer) == "source 1"
    assert source_label({"status": {}}) == source_label({"info": {"imageSpec": {"config": {"Labels": None}}}}) == ""


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("ERROR: failed to load image\nctr: content digest sha256:9106d839: not found", "SFM-IMG-008"),
        ("write /var/lib/containerd/x: no space left on device", "SFM-TOOL-005"),
        ("ctr: image not found", "SFM-IMG-002"),
    ],
)
def test_a_load_that_failed_has_the_code_of_what_was_said(said: str, code: str) -> None:
    assert load_code(CommandFailed(["kind", "load"], 1, "", said)) == code


def test_a_folder_for_the_archive_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    aim = Target()
    hands = Hands(aim, packaged(), Observer(aim, packaged()), Shell(), 0.0, print)
    with pytest.raises(Trouble, match="SFM-CLI-029") as caught:
        load(hands, hands.shell, ["redis:7"], ["soma-control-plane"])
    assert "TMPDIR" in caught.value.next_step


@pytest.mark.usefixtures("helm")
def test_the_jobs_image_of_an_archive_folder_is_brought_along(tmp_path: Path) -> None:
    archive.write(tmp_path, Index(roles={archive.JOBS: "soma/sfmctl:0.1.0"}))
    source = ImageSource("archive", str(tmp_path))
    aim = Target(infra=find_infra(None), cache=tmp_path / "cache", images=source)
    assert carried(aim, packaged(), ReadShell())[-1].ref == "soma/sfmctl:0.1.0"
