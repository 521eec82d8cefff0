"""Checks: the record, the roots, the two deadlines, and what is tried again."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playbook import check as checking
from playbook.check import Probe, Verdicts
from playbook.facts import Observer
from playbook.load import packaged
from playbook.model import Check, CheckSpec, Status
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown

FIELDS = [
    "id",
    "category",
    "title",
    "command",
    "criterion",
    "status",
    "observed",
    "hint",
    "doc",
    "duration_ms",
    "attempts",
]


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    target, book = Target(state=tmp_path), packaged()
    return Probe(target, book, Observer(target, book), Shell())


def spec(name: str, *, needs: tuple[str, ...] = (), attempts: int = 1, timeout_s: float = 30.0) -> CheckSpec:
    return CheckSpec(id=name, category=name, title=name, probe=name, params={}, command=f"ask {name}",
                     criterion="is well", needs=needs, hint="SFM-K8S-015", timeout_s=timeout_s, attempts=attempts,
                     only_when=())  # fmt: skip


def run(
    probe: Probe,
    specs: list[CheckSpec],
    functions: Mapping[str, Callable[..., Verdicts]],
    timeout_s: float = 60,
    **more: Any,
) -> dict[str, Check]:
    def one(name: str) -> checking.ProbeFunction:
        return lambda _probe, _params: functions[name]()

    return {r.id: r for r in checking.run(probe, specs, one, timeout_s=timeout_s, **more)}


def waived(check: Check) -> Check:
    return replace(check, status=Status.WARN) if check.status is Status.FAIL else check


def failing(error: BaseException) -> Callable[[], Verdicts]:
    def raise_it() -> Verdicts:
        raise error

    return raise_it


def test_a_record_has_exactly_its_fields(probe: Probe) -> None:
    found = run(probe, [spec("a")], {"a": lambda: (Status.PASS, "well")})["a"]
    assert list(found.as_dict()) == FIELDS
    assert (found.status, found.observed, found.hint, found.attempts) == (Status.PASS, "well", "", 1)


def test_what_does_not_pass_has_its_code_its_command_and_its_section(probe: Probe) -> None:
    found = run(probe, [spec("a")], {"a": lambda: (Status.FAIL, "pod x crashes", "SFM-K8S-009")})["a"]
    assert found.hint.startswith("SFM-K8S-009: ")
    assert found.doc == "docs/troubleshooting.md#sfm-k8s-009--a-container-crashes-again-and-again"


def test_a_failed_root_skips_its_dependents_and_says_because_of_what(probe: Probe) -> None:
    specs = [spec("api"), spec("pods", needs=("api",)), spec("logs", needs=("pods",)), spec("tools")]
    functions = {"api": failing(Unknown("SFM-K8S-001", "it does not answer")), "pods": lambda: (Status.PASS, ""),
                 "logs": lambda: (Status.PASS, ""), "tools": lambda: (Status.PASS, "there")}  # fmt: skip
    found = run(probe, specs, functions)
    assert found["api"].status is Status.ERROR
    assert found["pods"].status is Status.SKIP
    assert found["pods"].observed == "because of api"
    assert found["logs"].observed == "because of api"
    assert found["tools"].status is Status.PASS


def test_what_needs_a_waived_check_is_asked_all_the_same(probe: Probe) -> None:
    specs = [spec("api"), spec("pods", needs=("api",)), spec("logs", needs=("pods",))]
    functions = {
        "api": lambda: (Status.FAIL, "old"),
        "pods": lambda: (Status.FAIL, "red"),
        "logs": lambda: (Status.PASS, ""),
    }
    only_api = run(probe, specs, functions, excused=lambda c: waived(c) if c.id == "api" else c)
    assert [c.status for c in only_api.values()] == [Status.WARN, Status.FAIL, Status.SKIP]
    assert only_api["logs"].observed == "because of pods"
    assert [c.status for c in run(probe, specs, functions, excused=waived).values()] == [
        Status.WARN, Status.WARN, Status.PASS,
    ]  # fmt: skip


def test_a_skipped_component_does_not_take_others_with_it_but_a_failed_one_does(probe: Probe) -> None:
    specs = [spec("a"), spec("b", needs=("a",))]
    found = run(probe, specs, {"a": lambda: (Status.WARN, "slow"), "b": lambda: (Status.PASS, "ok")})
    assert found["b"].status is Status.PASS


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unknown("SFM-K8S-003", "forbidden"), Status.ERROR, "SFM-K8S-003"),
        (Trouble("SFM-VLT-001", "sealed"), Status.FAIL, "SFM-VLT-001"),
        (CommandFailed(["helm", "list"], 1, "", "boom"), Status.ERROR, "SFM-TOOL-003"),
    ],
)
def test_not_known_is_not_the_same_as_failed(probe: Probe, error: Exception, status: Status, code: str) -> None:
    found = run(probe, [spec("a")], {"a": failing(error)})["a"]
    assert found.status is status
    assert found.hint.startswith(code)


def test_a_bug_in_one_check_is_that_rows_error_and_the_others_go_on(probe: Probe) -> None:
    specs = [spec("a", attempts=3), spec("b"), spec("c", needs=("a",))]
    functions = {"a": failing(ZeroDivisionError("by nothing")), "b": lambda: (Status.PASS, "well"),
                 "c": lambda: (Status.PASS, "well")}  # fmt: skip
    found = run(probe, specs, functions)
    assert (found["a"].status, found["a"].attempts) == (Status.ERROR, 1)
    assert found["a"].observed.startswith("a bug in sfmctl: ZeroDivisionError at test_check.py:")
    assert found["a"].hint == "SFM-CLI-001: report it with what was observed"
    assert (found["b"].status, found["c"].status) == (Status.PASS, Status.SKIP)


def test_what_is_transient_is_tried_again_and_counted(probe: Probe) -> None:
    answers = iter([(Status.FAIL, "loading"), (Status.PASS, "PONG")])
    found = run(probe, [spec("a", attempts=3)], {"a": lambda: next(answers)})["a"]
    assert (found.status, found.attempts) == (Status.PASS, 2)


def test_what_cannot_get_better_is_tried_once(probe: Probe) -> None:
    found = run(probe, [spec("a", attempts=5)], {"a": failing(Trouble("SFM-VLT-001", "sealed"))})["a"]
    assert found.attempts == 1
    found = run(probe, [spec("a", attempts=5)], {"a": failing(Unknown("SFM-K8S-003", "forbidden"))})["a"]
    assert found.attempts == 1


def test_independent_checks_run_side_by_side(probe: Probe) -> None:
    meeting = threading.Barrier(3, timeout=30)

    def meet() -> Verdicts:
        meeting.wait()
        return Status.PASS, "met"

    found = run(probe, [spec(n) for n in "abc"], dict.fromkeys("abc", meet))
    assert {c.status for c in found.values()} == {Status.PASS}


def test_the_deadline_of_the_whole_names_what_did_not_end(probe: Probe) -> None:
    hold = threading.Event()

    def slow() -> Verdicts:
        hold.wait(20)
        return Status.PASS, "too late"

    threading.Timer(3.0, hold.set).start()
    specs = [spec("slow"), spec("after", needs=("slow",)), spec("quick")]
    functions = {"slow": slow, "after": lambda: (Status.PASS, ""), "quick": lambda: (Status.PASS, "well")}
    found = run(probe, specs, functions, timeout_s=1)
    assert found["quick"].status is Status.PASS
    for name in ("slow", "after"):
        assert found[name].status is Status.ERROR
        assert found[name].hint.startswith("SFM-CLI-025")


def test_only_brings_the_roots_along_and_skip_takes_away(probe: Probe) -> None:
    specs = list(probe.book.checks.values())
    chosen = [s.id for s in checking.selected(specs, ["vault.*"], [])]
    assert "vault.health" in chosen
    assert {"cluster.api", "namespace.active", "release.deployed"} <= set(chosen)
    assert "redis.ping" not in chosen
    assert "kafka.brokers" not in [s.id for s in checking.selected(specs, [], ["kafka"])]


@pytest.mark.parametrize("pattern", ["vault", "vault.*"])
def test_a_server_stands_for_the_applications_row_about_it_too(probe: Probe, pattern: str) -> None:
    specs = list(probe.book.checks.values())
    chosen = {s.id for s in checking.selected(specs, [pattern], [])}
    assert {"vault.health", "vault.auth", "app.vault", "app.inside"} <= chosen
    assert not chosen & {"app.redis", "app.kafka", "app.database", "app.pods"}
    left = {s.id for s in checking.selected(specs, [], [pattern])}
    assert not left & {"vault.health", "app.vault"} and "app.redis" in left


@pytest.mark.parametrize(
    ("only", "skip", "named"),
    [(["valt.*"], [], "valt.*"), (["vault", "kafak"], [], "kafak"), ([], ["kafak"], "kafak"), ([], ["*"], "--skip *"),
     (["vault"], ["vault"], "--skip vault")],
)  # fmt: skip
def test_a_choice_that_names_or_leaves_nothing_is_refused(
    probe: Probe, only: list[str], skip: list[str], named: str
) -> None:
    with pytest.raises(Trouble, match="SFM-CLI-026") as caught:
        checking.selected(list(probe.book.checks.values()), only, skip)
    assert named in caught.value.what
    assert "vault.health" in caught.value.why


def test_a_telling_run_tells_each_result_once(probe: Probe) -> None:
    told: list[str] = []
    specs = [spec("a"), spec("b", needs=("a",))]
    functions: dict[str, Any] = {"a": lambda: (Status.FAIL, "no"), "b": lambda: (Status.PASS, "")}
    checking.run(probe, specs, lambda n: lambda p, q: functions[n](), timeout_s=30, tell=lambda c: told.append(c.id))
    assert sorted(told) == ["a", "b"]


def test_what_has_nothing_to_judge_stands_in_nobodys_way(probe: Probe) -> None:
    specs = [spec("kafka"), spec("app", needs=("kafka",))]
    functions = {"kafka": lambda: (Status.SKIP, "it runs elsewhere"), "app": lambda: (Status.PASS, "asked")}
    assert run(probe, specs, functions)["app"].status is Status.PASS


@pytest.mark.parametrize(
    ("server", "expected"),
    [(Status.FAIL, (Status.SKIP, "because of vault: vault-0 not ready")),
     (Status.PASS, (Status.FAIL, "vault-0 not ready"))],
)  # fmt: skip
def test_the_row_on_workloads_steps_back_for_a_server_that_failed(
    probe: Probe, server: Status, expected: tuple[Status, str]
) -> None:
    probe.kept[checking.UNREADY] = ["sharedinfra-vault"]
    specs = [replace(spec("vault"), params={"component": "vault"}), spec("pods")]
    found = run(probe, specs, {"vault": lambda: (server, "sealed"), "pods": lambda: (Status.FAIL, "vault-0 not ready")})
    assert (found["pods"].status, found["pods"].observed) == expected


def test_the_row_on_workloads_steps_back_for_a_server_whose_failure_is_waived_too(probe: Probe) -> None:
    probe.kept[checking.UNREADY] = ["sharedinfra-vault"]
    specs = [replace(spec("vault"), params={"component": "vault"}), spec("pods")]
    functions = {"vault": lambda: (Status.FAIL, "sealed"), "pods": lambda: (Status.FAIL, "not ready")}
    found = run(probe, specs, functions, excused=lambda c: waived(c) if c.id == "vault" else c)
    assert [c.status for c in found.values()] == [Status.WARN, Status.SKIP]


def test_a_check_that_hangs_does_not_hold_up_the_end(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "GRACE_S", 0.0)
    let_go, ended = threading.Event(), threading.Event()

    def hang() -> Verdicts:
        let_go.wait(60)
        ended.set()
        return Status.PASS, "too late"

    found = run(probe, [spec("a")], {"a": hang}, timeout_s=0.2)
    assert not ended.is_set()
    assert (found["a"].status, found["a"].hint.partition(":")[0]) == (Status.ERROR, "SFM-CLI-025")
    let_go.set()
    assert ended.wait(60)
