"""The book is validated: what nobody reads, what is missing and what points nowhere names its file and line."""

import shutil
from pathlib import Path

import pytest

from playbook.actions import registry
from playbook.load import BOOK, load, packaged
from playbook.plan import GATE
from playbook.trouble import Trouble


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A copy of the book that a test may spoil."""
    return Path(shutil.copytree(BOOK, tmp_path / "book"))


def spoil(book: Path, name: str, old: str, new: str) -> int:
    """Replace the first `old` in a file of the book; returns the line at which the change begins."""
    path = book / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def test_the_packaged_book_is_valid() -> None:
    book = packaged()
    assert {"up", "down", "reset", "deploy", "rollback", "cluster-create", "cluster-delete"} <= set(book.plays)
    assert book.modes == ("dev", "test", "staging", "prod-lite", "prod")


def test_every_action_and_probe_of_the_book_is_there() -> None:
    book = packaged()
    for step in book.steps.values():
        assert step.action == GATE or callable(registry.action(step.action)), step.id
    for check in book.checks.values():
        assert callable(registry.probe(check.probe)), check.id


def test_every_registered_action_and_probe_is_named_by_the_book() -> None:
    book = packaged()
    assert set(registry.ACTIONS) <= {s.action for s in book.steps.values()}
    assert set(registry.PROBES) <= {c.probe for c in book.checks.values()}


def test_an_unknown_key_is_refused_with_file_and_line(book: Path) -> None:
    line = spoil(book, "steps.yaml", "timeout_s: 180", "timout_s: 180")
    with pytest.raises(Trouble) as caught:
        load(book)
    assert caught.value.code == "SFM-BOOK-001"
    assert caught.value.what.startswith(f"steps.yaml:{line}: unknown key 'timout_s'")


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("steps.yaml", "hint: SFM-HELM-005", "hint: SFM-HELM-999", "codes.yaml does not have"),
        ("steps.yaml", "needs: [release.remove]", "needs: [nobody]", "needs 'nobody'"),
        ("steps.yaml", "destructive: true", "destructive: often", "true or false"),
        ("steps.yaml", "- id: namespace.remove", "- id: release.remove", "is there twice"),
        ("steps.yaml", "{fact: release.state, is: absent}", "{fact: release.state}", "a condition has one of"),
        ("plays.yaml", "release.remove, namespace.remove]", "namespace.remove, release.remove]", "comes before"),
        (
            "plays.yaml",
            "[tools.ready, docker.ready, cluster.remove",
            "[tools.redy, docker.ready, cluster.remove",
            "no section has",
        ),
        ("checks.yaml", "criterion: at least 1.28", "", "'criterion' is missing"),
        ("tools.yaml", "required: true", "required: 1", "true or false"),
        ("images.yaml", "source: pull", "source: guess", "pull or build"),
        ("images.yaml", "modes: [dev,", "modes: [devel,", "unknown modes"),
        ("codes.yaml", "exit: 2", "exit: -2", "positive number"),
    ],
)
def test_what_is_wrong_is_named(book: Path, file: str, old: str, new: str, says: str) -> None:
    spoil(book, file, old, new)
    with pytest.raises(Trouble) as caught:
        load(book)
    assert caught.value.code == "SFM-BOOK-001"
    assert file in caught.value.what
    assert says in caught.value.what


def test_a_missing_file_is_another_error_than_a_wrong_one(book: Path) -> None:
    (book / "tools.yaml").unlink()
    with pytest.raises(Trouble, match="SFM-BOOK-002"):
        load(book)


def test_a_file_that_is_no_yaml_is_refused(book: Path) -> None:
    (book / "modes.yaml").write_text("- [dev\n")
    with pytest.raises(Trouble, match="SFM-BOOK-001"):
        load(book)


def test_every_code_leads_to_a_documented_exit_code() -> None:
    assert {code.exit for code in packaged().codes.values()} <= {2, 3, 5, 6}
