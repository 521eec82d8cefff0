"""The kind cluster's configuration: what it maps, and files that are none."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from playbook.actions import archive
from playbook.actions import kind as action
from playbook.actions.kind import (
    default_node_image,
    half_made,
    marker,
    node_image,
    not_made,
    supplied_node_image,
    wanted_ports,
)
from playbook.engine import Hands
from playbook.facts import Observer, observe_group
from playbook.load import packaged
from playbook.shell import CommandFailed, Shell
from playbook.target import ImageSource, Target, find_infra
from playbook.trouble import Trouble
from testing.api import leading


def test_the_ports_of_the_configuration_are_found() -> None:
    assert wanted_ports(Target(infra=find_infra(None)).kind_config) == {"30797", "30095"}


@pytest.mark.parametrize("text", [b"", b"nodes:", b"nodes: [{role: worker, extraPortMappings: }]"])
def test_a_configuration_that_maps_nothing_maps_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "kind.yaml").write_bytes(text)
    assert wanted_ports(tmp_path / "kind.yaml") == set()


@pytest.mark.parametrize(
    "text",
    [b"just words", b"- role: worker", b"nodes: 3", b"nodes: [worker]", b"nodes: [", b"\xff\xfe\x00",
     b"nodes: [{extraPortMappings: [{containerPort: 1}]}]", b"nodes: [{extraPortMappings: 7}]"],
)  # fmt: skip
def test_a_file_that_is_no_configuration_of_kind_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "kind.yaml").write_bytes(text)
    with pytest.raises(Trouble) as caught:
        wanted_ports(tmp_path / "kind.yaml")
    assert (caught.value.code, str(tmp_path / "kind.yaml") in caught.value.what) == ("SFM-KIND-008", True)


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match="SFM-KIND-008"):
        wanted_ports(tmp_path / "absent.yaml")


def test_the_node_image_is_the_one_that_is_told_else_the_configured_one(tmp_path: Path) -> None:
    config = tmp_path / "kind.yaml"
    config.write_text("nodes: [{role: control-plane, image: 'kindest/node:v1.32.0@sha256:00'}]")
    no_programs = Shell(env={"PATH": str(tmp_path)})
    assert node_image(Target(kind_file=config, node_image="kindest/node:v1.33.1@sha256:00"), no_programs) == (
        "kindest/node:v1.33.1"
    )
    assert node_image(Target(kind_file=config), no_programs) == "kindest/node:v1.32.0"


def test_the_node_image_that_kind_takes_by_itself_stands_in_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Trouble, match="SFM-KIND-007") as caught:
        default_node_image()
    assert "--charts-only" in caught.value.next_step
    (tmp_path / "kind").write_bytes(b"\x7fELF\0before" + b"kindest/node:v1.34.0@sha256:" + b"a1" * 32 + b"after\0")
    (tmp_path / "kind").chmod(0o755)
    assert default_node_image() == "kindest/node:v1.34.0"


def test_an_archive_folder_without_a_node_image_leaves_the_choice_to_kind(tmp_path: Path) -> None:
    archive.write(tmp_path, archive.Index())
    aim = Target(images=ImageSource("archive", str(tmp_path)), state=tmp_path)
    no_programs = Shell(env={"PATH": str(tmp_path)})
    hands = Hands(aim, packaged(), Observer(aim, packaged()), no_programs, time.monotonic() + 60, lambda text: None)
    assert supplied_node_image(hands) == ""
    archive.write(
        tmp_path, archive.Index({"docker.io/kindest/node:v1": {"id": "sha256:7"}}, {"node": "kindest/node:v1"})
    )
    with pytest.raises(Trouble, match="the program docker is not installed"):  # which is asked whether it has it
        supplied_node_image(hands)


def test_a_configuration_that_cannot_be_used_is_told_by_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\n")  # it answers that there is no container
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    aim = Target(kind_file=tmp_path / "absent.yaml", state=tmp_path)
    found = observe_group(Observer(aim, packaged()), "cluster")
    assert {(fact.known, fact.code) for fact in found.values()} == {(False, "SFM-KIND-008")}


def node_made(at: float) -> list[dict[str, Any]]:
    return [{"Created": datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "123Z")}]


def test_only_what_was_made_with_the_marker_and_has_no_context_is_half_made(tmp_path: Path) -> None:
    aim = Target(state=tmp_path, kubeconfig=tmp_path / "kubeconfig")
    leading(tmp_path / "kubeconfig", "http://127.0.0.1:1", ["kind-other"])
    now = time.time()
    assert not half_made(aim, node_made(now))  # no run of ours was cut off
    marker(tmp_path, "soma").touch()
    assert half_made(aim, node_made(now + 20))
    assert not half_made(aim, node_made(now - 86_400))
    assert not half_made(aim, node_made(now + 86_400))
    leading(tmp_path / "kubeconfig", "http://127.0.0.1:1", ["kind-soma"])
    assert not half_made(aim, node_made(now + 20))


def test_what_a_failed_create_began_is_taken_out_of_the_kubeconfig_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action, "STRAGGLER_S", 0.1)
    for name in ("kind", "docker"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked-of-{name}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    aim = Target(state=tmp_path, kubeconfig=tmp_path / "kubeconfig")
    hands = Hands(aim, packaged(), Observer(aim, packaged()), Shell(), time.monotonic() + 60, lambda text: None)
    marker(tmp_path, "soma").touch()
    action.clean_up(hands, marker(tmp_path, "soma"))
    asked = (tmp_path / "asked-of-kind").read_text()
    assert asked == f"delete cluster --name soma --kubeconfig {tmp_path}/kubeconfig\n"
    assert not marker(tmp_path, "soma").exists()


def test_a_cluster_that_somebody_else_made_meanwhile_is_not_taken_away(tmp_path: Path) -> None:
    flag, aim = tmp_path / "making-soma", Target(state=tmp_path)
    no_programs = Shell(env={"PATH": str(tmp_path)})
    hands = Hands(aim, packaged(), Observer(aim, packaged()), no_programs, time.monotonic() + 60, lambda text: None)

    def failed(said: str) -> CommandFailed:
        return CommandFailed(["kind", "create", "cluster"], 1, "", f"ERROR: failed to create cluster: {said}")

    flag.touch()
    taken = not_made(hands, flag, failed('node(s) already exist for a cluster with the name "soma"'))
    assert (taken.code, flag.exists()) == ("SFM-KIND-009", False)
    flag.touch()
    with pytest.raises(Trouble, match="the program kind is not installed"):  # this one would be taken away
        not_made(hands, flag, failed("could not find a log line"))
    assert flag.exists()
