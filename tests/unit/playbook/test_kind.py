"""The kind cluster's configuration: what it maps, and files that are none."""

from pathlib import Path

import pytest

from playbook.actions.kind import wanted_ports
from playbook.target import Target, find_infra
from playbook.trouble import Trouble


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
