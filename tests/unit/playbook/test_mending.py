"""Hints are commands that exist, aimed at the cluster that was looked at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from playbook.load import packaged
from playbook.mending import COMMAND, DESTROYS, filled, next_step
from playbook.target import Target
from playbook.wiring.application import application
from testing.commandline import every_command, parsed

SHOP = application("shop", "dev", "shops")
HERE = Target(context="kind-other", cluster="other", app=SHOP)


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SFM_CLUSTER", raising=False)


def commands(target: Target) -> list[str]:
    return [c for code in packaged().codes.values() for c in COMMAND.findall(next_step(code, target))]


@pytest.mark.parametrize(
    "target", [HERE, Target(app=SHOP), Target(context="prod-eu", cluster="soma", mode="prod", app=SHOP)]
)
def test_every_command_of_ours_in_the_book_exists_with_its_options(target: Target) -> None:
    ours = [c for c in commands(target) if c.startswith("sfmctl ")]
    assert len(ours) > 40
    assert len({tuple(parsed(c)[0]) for c in ours}) > 10


def test_a_command_that_depends_on_mode_or_environment_says_which() -> None:
    texts = [text for code in packaged().codes.values() for text in (code.mend, code.elsewhere)]
    for command in [c for text in texts for c in COMMAND.findall(text) if c.startswith("sfmctl ")]:
        takes, words = parsed(command)[1], command.split()
        if "--env" not in words:
            assert "APP" not in words or "env" not in takes, command
            assert "--mode" in words or "mode" not in takes, command
    deploys = re.findall(r"sfmctl (?:deploy|up)\b(.{12})?", "\n".join(texts))
    assert deploys and set(deploys) == {" --mode MODE"}


def test_every_command_for_a_cluster_names_the_one_that_was_looked_at() -> None:
    for command in commands(HERE):
        if command.startswith("kubectl "):
            assert command.startswith("kubectl --context kind-other "), command
        elif not command.startswith(
            ("sfmctl doctor", "sfmctl explain", "sfmctl playbook", "sfmctl images bu", "helm d")
        ):
            assert "other" in command, command


def test_a_command_that_destroys_can_be_typed_as_it_stands_on_a_cluster_that_is_not_of_kind() -> None:
    elsewhere = Target(context="prod-eu", mode="prod", app=SHOP)
    destroying = [c for c in commands(elsewhere) if re.match(r"sfmctl (reset|down|rollback|app unwire)\b", c)]
    assert len(destroying) >= 3
    for command in destroying:
        options = parsed(command)[1]
        assert (options["context"], list(options["allow"])) == ("prod-eu", ["prod-eu"]), command
    assert filled("sfmctl deploy --recover", elsewhere).endswith("--context prod-eu --allow-context prod-eu")
    assert not [c for c in commands(HERE) if "--allow-context" in c]


def test_every_command_that_asks_for_it_is_known_to_destroy() -> None:
    asking = [name for name, options in every_command() if "allow" in options]
    assert set(asking) == {*DESTROYS, "up", "deploy"}  # these two with --recover alone


def test_the_application_its_namespace_and_the_values_are_filled_in() -> None:
    wire = "sfmctl app wire APP --env ENV"
    assert filled(wire, HERE) == "sfmctl app wire shop --env dev --namespace shops --cluster other"
    assert filled(wire, Target(app=application("shop", "dev"))) == "sfmctl app wire shop --env dev"
    said = filled("kubectl -n APP get pods, then sfmctl deploy --mode MODE (or not)",
                  Target(context="prod-eu", mode="prod", values=(Path("/etc/our values.yaml"),), app=SHOP))  # fmt: skip
    assert said == (
        "kubectl --context prod-eu -n shops get pods, "
        "then sfmctl deploy --mode prod -f '/etc/our values.yaml' --context prod-eu (or not)"
    )


def test_no_hint_about_another_cluster_makes_or_fills_one_of_kind() -> None:
    elsewhere = Target(context="prod-eu", kubeconfig=Path("/etc/prod"), app=SHOP)
    about_kind = ("SFM-KIND-", "SFM-IMG-001", "SFM-IMG-002", "SFM-IMG-003", "SFM-IMG-004", "SFM-IMG-006",
                  "SFM-IMG-008")  # fmt: skip
    for code in packaged().codes.values():
        if not code.code.startswith(about_kind):  # these are raised for a kind cluster alone
            assert not re.search(r"sfmctl (cluster|images)", next_step(code, elsewhere)), code.code
    assert next_step(packaged().codes["SFM-K8S-001"], Target()).startswith("sfmctl cluster create ")


def test_words_that_are_no_command_stay_as_they_are() -> None:
    for words in (
        "correct the line that is named",
        "wait, then run it again",
        "make soma/sfmctl available to the nodes",
    ):
        assert filled(words, HERE) == words
