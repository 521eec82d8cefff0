"""Waiting: what was ill before ends no change that may mend it, what becomes ill meanwhile ends it at once.

A real HTTP server has the objects, and a real program stands where helm would run.
"""

from __future__ import annotations

import base64
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playbook.actions import helm
from playbook.actions import waiting as action
from playbook.actions.waiting import told
from playbook.actions.workloads import judge
from playbook.engine import Hands
from playbook.facts import Observer
from playbook.load import packaged
from playbook.shell import Shell
from playbook.target import Target
from playbook.trouble import Trouble
from testing.api import Api, serving
from testing.workloads import LONG_AGO, NOW, pod, seen, waiting, workload

APPS, CORE = "/apis/apps/v1/namespaces/soma-infra", "/api/v1/namespaces/soma-infra"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path / "kubeconfig", "kind-soma") as server:
        yield server


@pytest.fixture
def hands(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hands]:
    monkeypatch.setattr(action, "POLL_S", 0.1)
    aim = Target(kubeconfig=tmp_path / "kubeconfig", state=tmp_path, ready_timeout_s=20)
    made = Hands(aim, packaged(), Observer(aim, packaged()), Shell(), time.monotonic() + 60, lambda text: None)
    yield made
    made.forget()


def program(seconds: float) -> list[str]:
    return [sys.executable, "-c", f"import time; time.sleep({seconds})"]


def show(api: Api, thing: dict[str, Any], *pods: dict[str, Any]) -> None:
    api.put(f"{APPS}/statefulsets", thing)
    api.put(f"{CORE}/pods", *pods)


def test_what_was_ill_before_does_not_end_the_helm_that_may_mend_it(api: Api, hands: Hands) -> None:
    show(api, workload("opa"), pod("opa-0", waiting("ErrImagePull")))
    later = threading.Timer(0.5, show, [api, workload("opa"), pod("opa-0", waiting("ImagePullBackOff"))])
    later.start()
    helm.watched(hands, program(2))
    later.join()


def test_what_becomes_ill_while_helm_runs_ends_it_at_once(api: Api, hands: Hands) -> None:
    show(api, workload("opa"), pod("opa-0", waiting("ImagePullBackOff"), uid="old"))
    later = threading.Timer(0.5, show, [api, workload("opa"), pod("opa-0", waiting("ImagePullBackOff"), uid="new")])
    later.start()
    started = time.monotonic()
    with pytest.raises(Trouble) as caught:
        helm.watched(hands, program(50))
    later.join()
    assert caught.value.code == "SFM-IMG-005"
    assert time.monotonic() - started < 40


def test_helms_own_error_is_not_taken_for_what_was_ill_before(api: Api, hands: Hands) -> None:
    show(api, workload("opa"), pod("opa-0", waiting("ImagePullBackOff")))
    failing = [sys.executable, "-c", "import sys; sys.exit('Error: a hook failed')"]
    with pytest.raises(Trouble) as caught:
        helm.watched(hands, failing)
    assert caught.value.code == "SFM-HELM-002"


def crashing(restarts: int) -> dict[str, Any]:
    return pod("pgpool-0", waiting("CrashLoopBackOff", restarts=restarts, terminated={"exitCode": 1}))


def test_a_pod_that_backs_off_may_try_once_more_now_that_its_peer_is_mended(api: Api, hands: Hands) -> None:
    show(api, workload("pgpool"), crashing(9))
    later = threading.Timer(1, show, [api, workload("pgpool", ready=1), pod("pgpool-0", ready=True)])
    later.start()
    assert action.wait_ready(hands, {}).startswith("all ready after")
    later.join()


def test_a_pod_that_crashes_again_will_not_become_ready(api: Api, hands: Hands) -> None:
    show(api, workload("pgpool"), crashing(9))
    later = threading.Timer(1, show, [api, workload("pgpool"), crashing(10)])
    later.start()
    with pytest.raises(Trouble) as caught:
        action.wait_ready(hands, {})
    later.join()
    assert (caught.value.code, "10 restarts" in caught.value.why) == ("SFM-K8S-009", True)


@pytest.mark.parametrize("readable", [True, False])
def test_the_log_of_a_pod_that_crashes_is_told_without_the_values_of_secrets(
    readable: bool, api: Api, hands: Hands
) -> None:
    show(api, workload("pgpool"), crashing(10))
    password = base64.b64encode(b"correct-horse\nbattery-staple\n").decode()
    api.put(f"{CORE}/secrets", {"metadata": {"name": "sharedinfra-postgres"}, "data": {"password": password}})
    api.texts[f"{CORE}/pods/pgpool-0/log"] = "no login with correct-horse\nnor with battery-staple: refused\n"
    if not readable:
        api.refused.add(f"{CORE}/secrets")
    found = judge(seen(statefulsets=[workload("pgpool")], pods=[crashing(10)]), NOW)
    trouble = action.terminal_trouble(hands.api, "soma-infra", found)
    assert trouble is not None
    assert ("no login with <secret>\n  nor with <secret>: refused" in trouble.why) is readable
    assert ("not shown, since the Secrets" in trouble.why) is not readable
    assert "correct-horse" not in trouble.why
    assert "battery-staple" not in trouble.why


def test_the_end_of_the_whole_commands_time_ends_the_wait(api: Api, hands: Hands) -> None:
    show(api, workload("opa"))
    hands.seen.deadline = time.monotonic() + 1
    with pytest.raises(Trouble) as caught:
        action.wait_ready(hands, {})
    assert (caught.value.code, "StatefulSet opa 0/1" in caught.value.why) == ("SFM-CLI-025", True)


def test_who_waits_is_told_how_many_are_ready_and_what_was_warned_of_lately() -> None:
    def event(at: str, message: str) -> dict[str, Any]:
        return {"metadata": {"creationTimestamp": at}, "reason": "Unhealthy", "lastTimestamp": at, "message": message,
                "involvedObject": {"kind": "Pod", "name": "z-0"}}  # fmt: skip

    events = [event(LONG_AGO, "an old story"), event("2026-09-21T14:20:00Z", "probe failed")]
    scene = seen(statefulsets=[workload("a", ready=1), workload("z")], events=events)
    lines = told(scene, judge(scene, NOW), NOW).splitlines()
    assert lines[0] == "1 of 2 ready: a"
    assert lines[1].startswith("StatefulSet z 0/1")
    assert [line for line in lines if "event" in line] == [lines[2]]
    assert "probe failed" in lines[2]
