"""The chart before it meets a cluster: where it is put together."""

from pathlib import Path

import pytest

from playbook.actions import chart
from playbook.shell import ReadShell
from playbook.target import Target, find_infra
from playbook.trouble import Trouble


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    aim = Target(infra=find_infra(None), cache=tmp_path / "file" / "sfm")
    with pytest.raises(Trouble) as caught:
        chart.staged(aim, ReadShell())
    assert (caught.value.code, "XDG_CACHE_HOME" in caught.value.next_step) == ("SFM-CLI-029", True)
