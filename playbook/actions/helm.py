"""The release: installed, watched, tried again when the API server was only busy, rolled back, removed.

A digest of charts, mode and values is kept in the release's description, so a second run knows that nothing changed
without asking the cluster for more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from playbook.actions import drift, waiting
from playbook.actions.chart import documents, inputs_digest, rendered, staged, value_arguments
from playbook.actions.workloads import judge, scene
from playbook.check import Probe, Verdicts
from playbook.kube import Json
from playbook.model import Status
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown
from playbook.wiring.endpoints import NAME as ENDPOINTS

if TYPE_CHECKING:
    from playbook.engine import Hands
    from playbook.facts import Observer

MARK = "sfmctl inputs "
HISTORY = 10
ATTEMPTS = 3
RETRY_S = 5.0
TRANSIENT = (
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "etcdserver: too many requests",
    "TLS handshake timeout",
    "connection reset by peer",
    "http2: client connection lost",
    "the server is currently unable to handle the request",
    "net/http: request canceled",
    "unexpected EOF",
)
"""What helm says when the API server was busy and the same command may well succeed a moment later."""


CLAIM = ("Forbidden: updates to statefulset spec", "can not be less than")
"""What the API server says to values that ask another volume claim of a StatefulSet than the one it has."""


def cluster_flags(target: Target) -> list[str]:
    """Which cluster and namespace a helm command is for: always said, never the current context."""
    kubeconfig = ["--kubeconfig", str(target.kubeconfig)] if target.kubeconfig else []
    return ["--kube-context", target.context, *kubeconfig, "--namespace", target.namespace]


def status(target: Target, shell: Shell) -> Json | None:
    """The release as helm has it; None when there is none."""
    argv = ["helm", "status", target.release, *cluster_flags(target), "-o", "json"]
    try:
        return dict(json.loads(shell.run(argv, timeout_s=20).stdout))
    except CommandFailed as failed:
        if "not found" in failed.stderr and "release" in failed.stderr:
            return None
        raise unreachable(failed) from failed


def unreachable(failed: CommandFailed) -> Trouble:
    """helm could not ask the cluster: which of the reasons it is."""
    said = failed.stderr
    if "context" in said and "does not exist" in said:
        return Unknown("SFM-K8S-002", "the kubeconfig does not have this context", why=failed.gist)
    if "forbidden" in said.lower():
        return Unknown("SFM-K8S-003", "the API server refuses this to helm", why=failed.gist)
    if any(words in said for words in ("connection refused", "unreachable", "timeout", "EOF", "no such host")):
        return Unknown("SFM-K8S-001", "the API server does not answer helm", why=failed.gist)
    return Unknown("SFM-TOOL-003", "helm ended with an error", why=failed.told)


def release_facts(seen: Observer) -> dict[str, Any]:
    """The release's state, mode and what would free it, whether it is made from today's charts and values, and what of
    it is gone or was edited."""
    target = seen.target
    absent = {"release.state": "absent", "release.stuck": "no", "release.mode": "", "release.current": False,
              "release.missing": [], "release.edited": [], "release.revision": 0, "release.since": ""}  # fmt: skip
    if seen.reader.get(f"/api/v1/namespaces/{target.namespace}") is None:
        return absent
    found = status(target, seen.shell)
    if found is None:
        return absent
    info = found["info"]
    way, good = stuck(target, seen.shell, found)
    objects = drift.pairs(seen.reader, target, found.get("manifest", ""))
    return {
        "release.state": info["status"],
        "release.stuck": way,
        "release.mode": mode_of(target, seen.shell, found, way, good),
        "release.current": info.get("description", "") == MARK + inputs_digest(target),
        "release.missing": drift.missing(objects),
        "release.edited": drift.edited(objects),
        "release.revision": found["version"],
        "release.since": str(info.get("last_deployed", ""))[:19],
    }


def history(target: Target, shell: Shell) -> list[Json]:
    """The release's revisions, oldest first."""
    argv = ["helm", "history", target.release, *cluster_flags(target), "-o", "json"]
    return list(json.loads(shell.run(argv, timeout_s=20).stdout))


def once_deployed(revisions: Sequence[Json]) -> list[int]:
    """The numbers of those that were deployed."""
    return [int(one["revision"]) for one in revisions if one["status"] in ("deployed", "superseded")]


def stuck(target: Target, shell: Shell, found: Json) -> tuple[str, int]:
    """What frees a release that was cut off half-way: `rollback` to a revision, `uninstall`, or `no`: it is not."""
    state = found["info"]["status"]
    if state == "uninstalling":
        return "uninstall", 0
    if not state.startswith("pending"):
        return "no", 0
    good = once_deployed(history(target, shell))
    return ("rollback", max(good)) if good else ("uninstall", 0)


def mode_of(target: Target, shell: Shell, found: Json, way: str, good: int) -> str:
    """The mode that the release was last deployed in; empty for one that is not there as a whole."""
    if way == "uninstall" or found["info"]["status"] == "uninstalled":
        return ""
    manifest = found.get("manifest", "")
    if way == "rollback":
        argv = ["helm", "get", "manifest", target.release, "--revision", str(good), *cluster_flags(target)]
        manifest = shell.run(argv, timeout_s=20).stdout
    published = [one.get("data", {}) for one in documents(manifest) if one["metadata"]["name"] == ENDPOINTS]
    return str(published[0].get("SOMA_INFRA_MODE", "")) if published else ""


def free(hands: Hands, params: Mapping[str, Any]) -> str:
    """Free a release that is stuck half-way: back to the last revision that was deployed."""
    target = hands.target
    good = max(once_deployed(history(target, hands.shell)))
    hands.tell(f"the release is stuck: rolling back to revision {good}")
    hands.shell.run(["helm", "rollback", target.release, str(good), *cluster_flags(target)], timeout_s=hands.left_s)
    return f"rolled back to revision {good}"


def clear(hands: Hands, params: Mapping[str, Any]) -> str:
    """Remove a release that was cut off before it was ever deployed, or while it was removed; absent is success."""
    hands.tell("the release is stuck with nothing to go back to: removing it")
    argv = ["helm", "uninstall", hands.target.release, *cluster_flags(hands.target), "--no-hooks", "--ignore-not-found"]
    hands.shell.run(argv, timeout_s=hands.left_s)
    return "removed what was never installed whole, or was half removed"


def upgrade(hands: Hands, params: Mapping[str, Any]) -> str:
    """`helm upgrade --install`, watched: helm's hooks may wait, and a state that cannot mend itself ends that early."""
    target = hands.target
    rendered(target, hands.shell)  # schema and template errors before the cluster is touched
    argv = [
        "helm", "upgrade", "--install", target.release, str(staged(target, hands.shell)), *cluster_flags(target),
        *value_arguments(target), "--description", MARK + inputs_digest(target), "--history-max", str(HISTORY),
        "--timeout", f"{max(30, int(hands.left_s) - 10)}s",
    ]  # fmt: skip
    insistent(hands, argv)
    after = status(target, hands.shell)
    if after is None:
        raise Trouble("SFM-HELM-007", f"helm ended well, but there is no release {target.release}")
    back = drift.put_back(hands.api, target, after.get("manifest", ""))
    return f"revision {after['version']} deployed" + (f", put back {', '.join(back)}" if back else "")


def insistent(hands: Hands, argv: list[str]) -> None:
    """Run an upgrade again when the API server was only busy; what a cut-off try of ours left pending is freed."""
    for attempt in range(ATTEMPTS):
        before = status(hands.target, hands.shell)
        ours = (before["version"] if before else 0) + 1
        try:
            watched(hands, argv)
            return
        except Trouble as trouble:
            said = f"{trouble.what} {trouble.why}"
            if attempt == ATTEMPTS - 1 or not any(words in said for words in TRANSIENT):
                raise
            hands.tell(f"the API server was busy, trying again: {trouble.why.splitlines()[-1]}")
        time.sleep(RETRY_S)
        left = status(hands.target, hands.shell)
        way, _ = stuck(hands.target, hands.shell, left) if left else ("no", 0)
        if left and way != "no":
            if left["version"] != ours:
                why = f"revision {left['version']} is {left['info']['status']}, and this run made none of that number"
                raise Trouble("SFM-HELM-004", "somebody else's change of the release is under way", why=why)
            (free if way == "rollback" else clear)(hands, {})


def watched(hands: Hands, argv: list[str]) -> None:
    """Run a helm command while looking at the workloads; ends it when one that was well will never become ready."""
    known = waiting.ill_before(scene(hands.api, hands.target.namespace), time.time())
    inner = hands.shell.child()
    with ThreadPoolExecutor(max_workers=1) as pool:
        running: Future[Any] = pool.submit(inner.run, argv, timeout_s=hands.left_s)
        try:
            waiting.watch(hands, running.done, ready_ends=False, known=known)
        except BaseException:
            inner.cancelled.set()
            raise
        try:
            running.result()
        except CommandFailed as failed:
            raise upgrade_trouble(hands, failed, known) from failed


def upgrade_trouble(hands: Hands, failed: CommandFailed, known: frozenset[str]) -> Trouble:
    """The code for what helm said while it changed the release, or for what became ill meanwhile."""
    said = failed.stderr
    if "another operation" in said:
        return Trouble("SFM-HELM-004", "the release is stuck half-way", why=failed.gist)
    if any(words in said for words in CLAIM):
        return Trouble("SFM-HELM-008", "a volume claim cannot be changed", why=failed.gist)
    found = judge(scene(hands.api, hands.target.namespace), time.time(), known)
    terminal = waiting.terminal_trouble(hands.api, hands.target.namespace, found)
    if terminal:
        return terminal
    other = unreachable(failed)
    if other.code != "SFM-TOOL-003":
        return other
    return Trouble("SFM-HELM-002", "helm could not install or upgrade the release", why=failed.told)


def uninstall(hands: Hands, params: Mapping[str, Any]) -> str:
    """Remove the release while its operators still run; absent is success."""
    argv = ["helm", "uninstall", hands.target.release, *cluster_flags(hands.target), "--ignore-not-found",
            "--timeout", f"{max(30, int(hands.left_s) - 10)}s"]  # fmt: skip
    try:
        hands.shell.run(argv, timeout_s=hands.left_s)
    except CommandFailed as failed:
        raise Trouble("SFM-HELM-005", "the release could not be uninstalled", why=failed.told) from failed
    return f"uninstalled {hands.target.release}"


def rollback(hands: Hands, params: Mapping[str, Any]) -> str:
    """Go back to the newest earlier revision that was once deployed."""
    target = hands.target
    try:
        revisions = history(target, hands.shell)
    except CommandFailed as failed:
        if "not found" in failed.stderr:
            raise Trouble("SFM-HELM-006", f"there is no release {target.release}") from failed
        raise unreachable(failed) from failed
    earlier = once_deployed(revisions[:-1])
    if not earlier:
        raise Trouble("SFM-HELM-006", "there is no revision to go back to", why=f"revisions: {len(revisions)}")
    watched(hands, ["helm", "rollback", target.release, str(max(earlier)), *cluster_flags(target)])
    return f"rolled back to revision {max(earlier)}"


def probe_release(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether the release is deployed."""
    found = status(probe.target, probe.seen.shell)
    if found is None:
        return Status.FAIL, "absent"
    return judge_release(found)


def judge_release(found: Json) -> Verdicts:
    """What `helm status` says, as a verdict: deployed, or what kept it from that."""
    state, said = found["info"]["status"], found["info"].get("description", "")
    if state.startswith("pending") or state == "uninstalling":
        return Status.FAIL, state, "SFM-HELM-004"
    observed = f"{state}, revision {found['version']}"
    if state == "deployed":
        return Status.PASS, observed
    return Status.FAIL, f"{observed}: {said}", "SFM-HELM-008" if any(words in said for words in CLAIM) else ""
