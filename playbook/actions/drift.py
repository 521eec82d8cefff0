"""What of a release was changed by hand: the manifest that helm keeps against the objects that live.

Only what the manifest says is compared: what the API server or a controller adds to it is theirs. What the cluster's
own admission makes of a field that helm wrote, or an autoscaler of a size, is no edit: the object's record of who wrote
which field tells them apart. A Secret's values are left out, since the chart makes them once and then keeps whatever is
there. Comparing is pure; no value is ever told except numbers, switches and image names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playbook import background
from playbook.actions.chart import documents
from playbook.check import Probe, Verdicts
from playbook.kube import MANAGER, Json, Reader, Writer
from playbook.model import Status
from playbook.target import Target

SERVERS_OWN = frozenset({"apiVersion", "kind", "metadata", "status"})
COMPARED_METADATA = ("labels", "annotations")
READERS = 8
OURS = frozenset({"helm", MANAGER})
"""Who writes a release: helm, and this program where it puts something back."""
CONTROLLERS = frozenset({"kube-controller-manager"})
Key = str | int


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the live object is not what the release has."""

    path: tuple[Key, ...]
    words: str
    place: str
    less: bool = False  # something that the release has is not there

    def __str__(self) -> str:
        return f"{self.place} {self.words}"


@dataclass(frozen=True, slots=True)
class Pair:
    """One object as the release has it, where the API server has it, and as it lives (None: it is gone)."""

    kept: Json
    path: str
    live: Json | None

    @property
    def name(self) -> str:
        """Kind and name."""
        return f"{self.kept['kind']} {self.kept['metadata']['name']}"

    @property
    def edits(self) -> list[Difference]:
        """What somebody changed by hand in it; none when it is gone."""
        live = self.live or {}
        return [one for one in differences(self.kept, live) if by_hand(one, live)] if live else []


def resource_path(reader: Reader, item: Json, namespace: str, known: dict[str, Json]) -> str | None:
    """Where the API server has this object; None when its kind is not served."""
    version = item["apiVersion"]
    base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    if base not in known:
        known[base] = {r["kind"]: r for r in (reader.get(base) or {}).get("resources", []) if "/" not in r["name"]}
    resource = known[base].get(item["kind"])
    if resource is None:
        return None
    place = f"/namespaces/{item['metadata'].get('namespace') or namespace}" if resource["namespaced"] else ""
    return f"{base}{place}/{resource['name']}/{item['metadata']['name']}"


def pairs(reader: Reader, target: Target, manifest: str) -> list[Pair]:
    """Every object of a release's manifest beside the one that lives."""
    known: dict[str, Json] = {}
    items = documents(manifest)
    paths = [resource_path(reader, item, target.namespace, known) for item in items]
    lives = background.each(lambda path: reader.get(path) if path else None, paths, READERS)
    return [Pair(item, path or "", live) for item, path, live in zip(items, paths, lives, strict=True)]


def missing(found: Sequence[Pair]) -> list[str]:
    """The objects that are no longer in the cluster."""
    return [pair.name for pair in found if pair.live is None]


def edited(found: Sequence[Pair]) -> list[str]:
    """What differs in the objects that are, in words."""
    return [f"{pair.name}: {one}" for pair in found for one in pair.edits]


def by_hand(one: Difference, live: Json) -> bool:
    """Whether a person or their tool made this difference, and not the cluster with what helm itself sent."""
    if one.less:
        return True
    owners = writers(live, one.path)
    return not owners or bool(owners - OURS - CONTROLLERS)


def writers(live: Json, path: tuple[Key, ...]) -> set[str]:
    """Who wrote the field at `path`, or something below it, by the object's managedFields."""
    entries = live["metadata"].get("managedFields") or []
    return {e["manager"] for e in entries if e.get("subresource") != "status" and wrote(e["fieldsV1"], live, path)}


def wrote(fields: Mapping[str, Any], live: Any, path: tuple[Key, ...]) -> bool:
    """Whether `fields` (one writer's, in the API server's notation) reach to `path` of `live`."""
    if not path or not fields:  # below what was asked for, or a value that is written as a whole
        return True
    key, rest = path[0], path[1:]
    if isinstance(key, str):
        below = fields.get(f"f:{key}")
        return below is not None and key in live and wrote(below, live[key], rest)
    for name, below in fields.items():
        if name.startswith("k:") and json.loads(name[2:]).items() <= live[key].items():
            return wrote(below, live[key], rest)
    return False


def differences(kept: Json, live: Json) -> list[Difference]:
    """Where `live` is not what `kept` says."""
    if kept["kind"] == "Secret":
        gone = [k for k in {**kept.get("data", {}), **kept.get("stringData", {})} if k not in live.get("data", {})]
        return [Difference(("data", key), "is gone", f"data.{key}", less=True) for key in sorted(gone)]
    found: list[Difference] = []
    for name in COMPARED_METADATA:
        wanted = kept["metadata"].get(name) or {}
        found += compared(wanted, live["metadata"].get(name) or {}, ("metadata", name), f"metadata.{name}")
    for key in kept.keys() - SERVERS_OWN:
        exact = kept["kind"] == "ConfigMap"
        found += of_key(kept[key], live, (), "", key, exact=exact)
        if exact and isinstance(kept[key], dict):
            added = (live.get(key) or {}).keys() - kept[key].keys()
            found += [Difference((key, name), "was added", f"{key}.{name}") for name in sorted(added)]
    return sorted(found, key=lambda d: d.place)


def of_key(
    wanted: Any, live: Json, path: tuple[Key, ...], place: str, key: str, *, exact: bool
) -> Iterator[Difference]:
    """One key of a mapping: gone, or whatever differs below it."""
    inner = f"{place}.{key}" if place else key
    if key in live:
        yield from compared(wanted, live[key], (*path, key), inner, exact=exact)
    elif not is_empty(wanted):
        yield Difference((*path, key), "is gone", inner, less=True)


def compared(wanted: Any, live: Any, path: tuple[Key, ...], place: str, *, exact: bool = False) -> Iterator[Difference]:
    """Where `live` is not what `wanted` says, below `path`; `exact`: quantities are words there like any other."""
    if wanted is None or (is_empty(wanted) and is_empty(live)):
        return
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key, value in wanted.items():
            yield from of_key(value, live, path, place, key, exact=exact)
    elif isinstance(wanted, list) and isinstance(live, list):
        if len(wanted) != len(live):
            words = f"has {len(live)} entries, the release has {len(wanted)}"
            yield Difference(path, words, place, less=len(live) < len(wanted))
            return
        for number, (one, other) in enumerate(zip(wanted, live, strict=True)):
            name = one.get("name", number) if isinstance(one, dict) else number
            yield from compared(one, other, (*path, number), f"{place}[{name}]", exact=exact)
    elif not same(wanted, live, exact=exact):
        told = may_be_told(wanted, path) and may_be_told(live, path)
        yield Difference(path, f"is {live}, the release has {wanted}" if told else "was changed", place)


def is_empty(value: Any) -> bool:
    """Whether the API server leaves this out of an object."""
    return value is None or value is False or value == 0 or value in ("", [], {})


def same(wanted: Any, live: Any, *, exact: bool) -> bool:
    """Whether two plain values say the same: `1` and `"1"`, `1000m` and `1`."""
    if wanted == live or str(wanted) == str(live):
        return True
    if exact or isinstance(wanted, bool | dict | list) or isinstance(live, bool | dict | list):
        return False
    from kubernetes.utils.quantity import parse_quantity

    try:
        return bool(parse_quantity(str(wanted)) == parse_quantity(str(live)))
    except ValueError:
        return False


def may_be_told(value: Any, path: tuple[Key, ...]) -> bool:
    """Whether a value may stand in a plan: numbers, switches and image names."""
    return isinstance(value, bool | int | float) or (isinstance(value, str) and path[-1:] == ("image",))


def patch(kept: Json, found: Sequence[Difference]) -> Json:
    """The JSON merge patch that makes every difference as the release has it; lists are put back as a whole."""
    made: Json = {}
    for one in found:
        keys: list[str] = []
        for key in one.path:
            if isinstance(key, int):
                break
            keys.append(key)
        wanted: Any = kept
        for key in keys:
            wanted = wanted.get(key) if isinstance(wanted, dict) else None
        at = made
        for key in keys[:-1]:
            at = at.setdefault(key, {})
        at[keys[-1]] = wanted
    return made


def put_back(api: Writer, target: Target, manifest: str) -> list[str]:
    """Put back what an upgrade leaves of edits by hand, such as entries added to a list; names what was changed."""
    changed = []
    for pair in pairs(api, target, manifest):
        found = pair.edits if pair.kept["kind"] != "Secret" else []
        if found:
            api.merge(pair.path, patch(pair.kept, found))
            changed.append(pair.name)
    return changed


def probe(probe: Probe, params: Any) -> Verdicts:
    """Whether every object of the release is there, as the release has it."""
    from playbook.actions import helm

    found = helm.status(probe.target, probe.seen.shell)
    if found is None:
        return Status.FAIL, "there is no release"
    objects = pairs(probe.seen.reader, probe.target, found.get("manifest", ""))
    gone, other = missing(objects), edited(objects)
    if gone or other:
        return Status.FAIL, "; ".join([*(f"{name} is gone" for name in gone), *other][:5])
    return Status.PASS, f"{len(objects)} objects, all as deployed"
