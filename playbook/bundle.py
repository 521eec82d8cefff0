"""What to look at after a failed verification, gathered while it is fresh: records, pods, events, logs of what is ill.

An allow-list, not a dump: Secrets and ConfigMaps are never read into it, and every value of a Secret of the two
namespaces is cut out of whatever a log says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from playbook.actions.workloads import pod_ready
from playbook.kube import Json, Reader
from playbook.model import Check
from playbook.scrub import scrubbed, secret_values
from playbook.trouble import Trouble

LOG_LINES = 200


def pod_lines(pods: Sequence[Json]) -> str:
    """One line a pod: name, phase, ready, restarts, node."""
    lines = []
    for pod in pods:
        restarts = sum(c.get("restartCount", 0) for c in pod["status"].get("containerStatuses", []))
        ready = "ready" if pod_ready(pod) else "not ready"
        where = pod["spec"].get("nodeName", "-")
        lines.append(f"{pod['metadata']['name']}\t{pod['status'].get('phase')}\t{ready}\t{restarts}\t{where}")
    return "\n".join(lines) + "\n"


def event_lines(events: Sequence[Json]) -> str:
    """The last 200 events, oldest first."""
    ordered = sorted(events, key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""))[-200:]
    return "".join(
        f"{e.get('lastTimestamp')}\t{e.get('type')}\t{e.get('reason')}\t{e.get('involvedObject', {}).get('kind')}/"
        f"{e.get('involvedObject', {}).get('name')}\t{e.get('message', '')}\n"
        for e in ordered
    )


def write(folder: Path, opened: Callable[[], Reader], namespaces: Sequence[str], checks: Sequence[Check]) -> list[Path]:
    """Write the bundle and return its files. What the API does not give, or a reader that `opened` cannot make, is said
    in the bundle, not raised."""
    try:
        reader = opened()
        values = [v for namespace in namespaces for v in secret_values(reader, namespace)]
    except Trouble as trouble:
        return [records(folder, checks, []), not_gathered(folder, trouble)]
    written = [records(folder, checks, values)]
    try:
        for namespace in namespaces:
            base = f"/api/v1/namespaces/{namespace}"
            pods = reader.items(f"{base}/pods")
            written.append(put(folder / namespace / "pods.tsv", pod_lines(pods)))
            events = scrubbed(event_lines(reader.items(f"{base}/events")), values)
            written.append(put(folder / namespace / "events.tsv", events))
            written += [file for pod in pods if not pod_ready(pod) for file in logs(folder, reader, base, pod, values)]
    except Trouble as trouble:
        written.append(not_gathered(folder, trouble))
    return written


def records(folder: Path, checks: Sequence[Check], values: Sequence[str]) -> Path:
    """The checks' records; what a server said may hold one of the values."""
    said = [{k: scrubbed(v, values) if isinstance(v, str) else v for k, v in c.as_dict().items()} for c in checks]
    return put(folder / "checks.json", json.dumps(said, indent=2, ensure_ascii=False))


def not_gathered(folder: Path, trouble: Trouble) -> Path:
    """Why the rest of the bundle is not there."""
    return put(folder / "not-gathered.txt", f"{trouble.what}\n{trouble.why}\n")


def logs(folder: Path, reader: Reader, base: str, pod: Json, values: Sequence[str]) -> list[Path]:
    """The last lines of each container of one pod that is not ready, and of its run before when it was restarted."""
    name, namespace, files = pod["metadata"]["name"], pod["metadata"]["namespace"], []
    for status in pod["status"].get("containerStatuses", []):
        for run, before in (("", {}), (".previous", {"previous": "true"})):
            if before and not status.get("restartCount"):
                continue
            try:
                text = reader.text(
                    f"{base}/pods/{name}/log", container=status["name"], tailLines=LOG_LINES, **before
                )  # fmt: skip
            except Trouble as trouble:
                text = f"no log: {trouble.what} {trouble.why}"
            file = folder / namespace / "logs" / f"{name}.{status['name']}{run}.log"
            files.append(put(file, scrubbed(text, values)))
    return files


def put(path: Path, text: str) -> Path:
    """Write one private file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
        path.chmod(0o600)
    except OSError as error:
        raise Trouble("SFM-CLI-031", f"the bundle's file {path} cannot be written", why=error.strerror or "") from error
    return path
