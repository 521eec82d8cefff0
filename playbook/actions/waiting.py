"""Waiting for workloads: told who is not ready, and ended early on what waiting cannot mend.

What was ill already when a change began never ends that change: it may be the very thing that the change mends.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from playbook.actions.workloads import (
    Scene,
    Unready,
    age_s,
    container_trouble,
    judge,
    judge_one,
    last_warnings,
    marks,
    pod_ill,
    scene,
    stamp,
)
from playbook.kube import Reader
from playbook.scrub import scrubbed, secret_values
from playbook.trouble import Trouble, Unknown

if TYPE_CHECKING:
    from playbook.engine import Hands

LOG_LINES = 12
READ_LINES = 120
"""How far back a log is read: what matters may stand above the frames of a long stack."""
POLL_S = 1.5
AWAY_S = 60.0
"""How long the API server may be away while we wait, before that is an error of its own."""
DAMAGED_LOG = ("Error while loading log dir", "because all log dirs in", "Error starting LogManager")
"""What a Kafka broker says when it stops over its log folder; records that it only cuts off are none of it."""
FRAME = re.compile(r"\s+(at |\.\.\. \d+ more)")


def last_log(reader: Reader, namespace: str, one: Unready) -> str:
    """The last lines of the container that failed; empty when it never ran."""
    if not one.pod:
        return ""
    text = tail(reader, namespace, one.pod, one.container)
    return text or (tail(reader, namespace, one.pod, one.container, previous=True) if one.previous else "")


def tail(reader: Reader, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
    """The last lines of a container, or of the one before it in its place, without the frames of a stack and the values
    of Secrets; empty where there is nothing to read."""
    query: dict[str, Any] = {"tailLines": READ_LINES, **({"container": container} if container else {})}
    try:
        text = reader.text(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", **query,
                           **({"previous": "true"} if previous else {}))  # fmt: skip
    except Trouble:
        return ""
    kept = "\n".join([line for line in text.splitlines() if not FRAME.match(line)][-LOG_LINES:])
    if not kept.strip():
        return ""
    try:
        return scrubbed(kept, secret_values(reader, namespace))
    except Trouble as trouble:
        return f"not shown, since the Secrets whose values may stand in it cannot be read: {trouble.what}"


def damage(log: str) -> str:
    """What a Kafka broker says that stopped over its log folder, with the cause that it gives; else empty."""
    lines = log.splitlines()
    found = next((n for n, line in enumerate(lines) if any(words in line for words in DAMAGED_LOG)), len(lines))
    return " ".join(lines[found : found + 2])


def terminal_trouble(reader: Reader, namespace: str, found: Sequence[Unready]) -> Trouble | None:
    """The error for the first state that waiting cannot mend, with its log's last lines; None when there is none."""
    bad = [one for one in found if one.code]
    if not bad:
        return None
    lines = [str(one) for one in bad]
    log = last_log(reader, namespace, bad[0]) if bad[0].code in ("SFM-K8S-009", "SFM-K8S-011") else ""
    code = "SFM-KAF-003" if damage(log) else bad[0].code
    if log:
        lines += [f"last lines of {bad[0].pod}:", *(f"  {line}" for line in log.splitlines())]
    return Trouble(code, f"{bad[0].kind} {bad[0].name} will not become ready", why="\n".join(lines))


def told(seen: Scene, found: Sequence[Unready], since: float) -> str:
    """What a person who waits wants to know: how many are ready, who is not and why, the newest warnings."""
    waiting = {one.name for one in found}
    names = [item["metadata"]["name"] for _, item in seen.workloads]
    ready = [name for name in names if name not in waiting]
    fresh = Scene((), (), (), (), (), [e for e in seen.events if age_s(stamp(e), since) <= 0])
    return "\n".join(
        [
            f"{len(ready)} of {len(names)} ready{': ' if ready else ''}{', '.join(sorted(ready))}",
            *(str(one) for one in found),
            *(f"event: {line}" for line in last_warnings(fresh, 2)),
        ]
    )


def ill_before(seen: Scene, now: float) -> frozenset[str]:
    """The marks of all that is ill before a change: pods, Jobs, and workloads whose pods are refused as they are."""
    pods = {marks(pod)[0] for pod in seen.pods if pod_ill(pod, now)}
    jobs = {marks(job)[0] for job in seen.jobs
            if any(c["type"] == "Failed" for c in job.get("status", {}).get("conditions", []))}  # fmt: skip
    found = [(item, judge_one(kind, item, seen, now)) for kind, item in seen.workloads]
    return frozenset(pods | jobs | {marks(item)[1] for item, one in found if one and one.code and not one.pod})


def backing_off(seen: Scene, now: float) -> frozenset[str]:
    """The marks of pods whose last crash is past: they may not have tried again since their peer was mended."""
    crashed = [pod for pod in seen.pods if (container_trouble(pod, now) or ("", ""))[1] == "SFM-K8S-009"]
    return frozenset(marks(pod)[1] for pod in crashed)


def watch(
    hands: Hands, until: Callable[[], bool], *, ready_ends: bool, known: frozenset[str] | None = None
) -> list[Unready]:
    """Look on until `until()` (or, with `ready_ends`, until all are ready), telling who is not; stops early on the end.

    Returns who is not ready at the end. Raises the trouble of a terminal state seen twice in a row; one that has a mark
    in `known` is none (what is not given: pods that back off when the watch begins).
    """
    namespace, before = hands.target.namespace, ""
    suspects: set[str] = set()
    since, away_since = time.time(), 0.0
    while True:
        hands.shell.check_cancelled()
        try:
            seen = scene(hands.api, namespace)
            away_since = 0.0
        except Unknown as unknown:
            away_since = away_since or time.monotonic()
            if unknown.code != "SFM-K8S-001" or time.monotonic() - away_since > AWAY_S:
                raise
            hands.tell(f"the API server does not answer: {unknown.why}")
            if until():
                return []
            time.sleep(POLL_S)
            continue
        known = backing_off(seen, time.time()) if known is None else known
        found = judge(seen, time.time(), known)
        bad = {f"{u.kind}/{u.name}/{u.code}" for u in found if u.code}
        if bad & suspects:
            trouble = terminal_trouble(hands.api, namespace, found)
            if trouble:
                raise trouble
        suspects = bad
        now = told(seen, found, since)
        if now != before:
            hands.tell(now)
            before = now
        if until() or (ready_ends and not found):
            return found
        if ready_ends and (closed := closed_vault(hands, found)):
            raise closed
        time.sleep(POLL_S)


def closed_vault(hands: Hands, found: Sequence[Unready]) -> Trouble | None:
    """When Vault alone is not ready: the trouble of one that waits for a person to open it, None of one that starts."""
    from playbook.actions import vault

    if not found or any(one.name != f"{hands.target.release}-vault" or one.code for one in found):
        return None
    try:
        waiting = vault.waits_for_a_person(vault.nodes(hands.api, hands.target))
    except Trouble:  # it does not answer yet: go on waiting, the deadline will name it
        return None
    if not waiting:
        return None
    return Trouble("SFM-VLT-001", "everything is ready but Vault, which waits for you", why="; ".join(waiting))


def wait_ready(hands: Hands, params: Mapping[str, Any]) -> str:
    """Wait until all workloads are ready; early when that cannot come, and with names and reasons at the deadline."""
    started = time.monotonic()
    hands.until(started + hands.target.ready_timeout_s)
    found = watch(hands, lambda: hands.left_s <= 0, ready_ends=True)
    if found:
        why = "\n".join(str(one) for one in found)
        if time.monotonic() >= hands.seen.deadline:
            what = f"the time for the whole command is over, and {len(found)} workloads are not ready"
            raise Trouble("SFM-CLI-025", what, why=why)
        raise Trouble(
            "SFM-K8S-010", f"{len(found)} workloads are not ready after {hands.target.ready_timeout_s:g} s", why=why
        )
    return f"all ready after {time.monotonic() - started:.0f} s"
