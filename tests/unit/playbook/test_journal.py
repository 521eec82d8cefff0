"""The journal: what is left after a run that was cut off, and that two runs never change one target together."""

from pathlib import Path

import pytest

from playbook import journal
from playbook.trouble import Trouble


def test_a_finished_run_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    with journal.opened(tmp_path, "kind-soma", "up") as record:
        record.write("started", step="cluster.create")
        record.write("changed", step="cluster.create")
        record.write("finished", failed="")
    assert journal.unfinished(journal.last(tmp_path, "kind-soma")) == ""
    assert journal.last(tmp_path, "kind-other") == []


def test_a_run_that_was_cut_off_names_the_step(tmp_path: Path) -> None:
    with journal.opened(tmp_path, "kind-soma", "up") as record:
        record.write("started", step="cluster.create")
        record.write("changed", step="cluster.create")
        record.write("started", step="images.preload")
        path = record.path
    with path.open("a") as out:
        out.write('{"event": "chan')  # the power went
    assert journal.unfinished(journal.last(tmp_path, "kind-soma")) == "images.preload"


def test_only_this_user_reads_it(tmp_path: Path) -> None:
    with journal.opened(tmp_path, "kind-soma", "up") as record:
        assert record.path.stat().st_mode & 0o777 == 0o600
        assert record.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_second_run_on_the_same_target_is_refused_and_one_on_another_is_not(tmp_path: Path) -> None:
    with journal.opened(tmp_path, "kind-soma", "up"):
        with pytest.raises(Trouble, match="SFM-CLI-024") as caught, journal.opened(tmp_path, "kind-soma", "reset"):
            pass
        assert "up" in caught.value.what
        with journal.opened(tmp_path, "kind-other", "up"):
            pass
    with journal.opened(tmp_path, "kind-soma", "reset"):
        pass


def test_old_runs_are_let_go(tmp_path: Path) -> None:
    folder = journal.folder(tmp_path, "kind-soma")
    folder.mkdir(parents=True)
    for number in range(journal.KEPT_RUNS + 5):
        (folder / f"20200101T000000-{number:04}-up.jsonl").touch()
    with journal.opened(tmp_path, "kind-soma", "up"):
        pass
    assert len(list(folder.glob("*.jsonl"))) == journal.KEPT_RUNS


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Trouble) as caught, journal.opened(tmp_path / "file" / "sfm", "kind-soma", "up"):
        pass
    assert (caught.value.code, "XDG_STATE_HOME" in caught.value.next_step) == ("SFM-CLI-029", True)
