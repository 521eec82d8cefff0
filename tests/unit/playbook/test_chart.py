"""The chart before it meets a cluster: where it is put together."""

import os
import shutil
import time
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


@pytest.mark.usefixtures("helm")
def test_charts_that_were_put_together_just_now_are_kept_however_old_their_source_is(tmp_path: Path) -> None:
    shutil.copytree(find_infra(None), tmp_path / "infra")
    os.utime(tmp_path / "infra" / "helm", (0, 0))
    cache = tmp_path / "cache" / "charts"
    for n in range(9):
        (cache / str(n)).mkdir(parents=True)
        os.utime(cache / str(n), (time.time() - 60 - n,) * 2)
    assert chart.staged(Target(infra=tmp_path / "infra", cache=tmp_path / "cache"), ReadShell()).is_dir()
    assert sorted(p.name for p in cache.iterdir() if len(p.name) == 1) == ["0", "1", "2", "3"]
