"""Making, configuring and listing namespaces. Every change is a row of the log, so that old answers can be replayed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sfmd import digests, validation
from sfmd.contract import Caller, Limits, NamespaceChange, NamespaceInfo, NamespaceSpec
from sfmd.core.model import NormaliserVersion
from sfmd.domain import ChangeRow, HalfLife, Namespace, Op
from sfmd.errors import E, Refused
from sfmd.group import Group
from sfmd.preparing import Embedders
from sfmd.spaces import Spaces, empty_space, ranking
from sfmd.writer import Writer

INFINITE = HalfLife("default", float("inf"))


class CreateCommand:
    """Makes a namespace, in a transaction of its own."""

    alone = True
    size = 1
    size_bytes = 0

    def __init__(self, spaces: Spaces, principal: str, wanted: Namespace, limits: Limits) -> None:
        self._spaces, self._principal, self._wanted, self._limits = spaces, principal, wanted, limits
        self.future: asyncio.Future[NamespaceInfo]

    def look_up(self, group: Group) -> None:
        """Nothing: namespaces are few and known."""

    def decide(self, group: Group) -> NamespaceInfo:
        found = self._spaces.find(self._wanted.name)
        if found is not None:
            first = found.history[0].namespace
            if replace(self._wanted, ns_id=first.ns_id, created_seq=first.created_seq) != first:
                raise Refused(E.NAMESPACE_EXISTS, f"namespace {first.name!r} was made with another configuration")
            return found.info()
        if len(self._spaces) >= self._limits.namespaces:
            raise Refused(E.TOO_LARGE, f"there are {self._limits.namespaces} namespaces; no more are allowed")
        seq = group.tx.reserve(1)
        namespace = replace(self._wanted, ns_id=group.tx.new_namespace_id(), created_seq=seq)
        detail = digests.detail_json(digests.namespace_detail(namespace))
        group.add(ChangeRow(seq, namespace.ns_id, Op.NAMESPACE, self._principal, group.at_s, detail_json=detail))
        group.tx.put_namespace(namespace)
        space = empty_space(ranking(seq, namespace, NormaliserVersion()), self._spaces.folder(namespace.ns_id))
        group.delta(space)
        group.after(lambda: self._spaces.add(space))
        return space.info()


class ConfigureCommand:
    """Changes what ranks in a namespace, in a transaction of its own."""

    alone = True
    size = 1
    size_bytes = 0

    def __init__(self, spaces: Spaces, principal: str, change: NamespaceChange, limits: Limits) -> None:
        self._spaces, self._principal, self._change, self._limits = spaces, principal, change, limits
        self.future: asyncio.Future[NamespaceInfo]

    def look_up(self, group: Group) -> None:
        """Nothing: namespaces are few and known."""

    def decide(self, group: Group) -> NamespaceInfo:
        space = self._spaces.get(self._change.name)
        old, expected = space.namespace, self._change.expected_config_version
        if expected is not None and expected != old.config_version:
            raise Refused(E.VERSION, f"namespace {old.name!r} is at configuration {old.config_version}, not {expected}")
        new = changed(old, self._change, self._limits)
        if new == old:
            return space.info()
        seq = group.tx.reserve(1)
        new = replace(new, config_version=old.config_version + 1)
        detail = digests.detail_json(digests.namespace_detail(new))
        group.add(ChangeRow(seq, new.ns_id, Op.CONFIGURED, self._principal, group.at_s, detail_json=detail))
        group.tx.put_namespace(new)
        point = ranking(seq, new, space.now.normaliser)
        group.delta(space).ranking = point
        return NamespaceInfo(new, point.normaliser.version, point.digest)


def changed(old: Namespace, change: NamespaceChange, limits: Limits) -> Namespace:
    """The configuration after a change: named classes and channels keep their number or are appended."""
    halves = {h.name: h for h in old.half_lives} | {h.name: h for h in change.half_lives}
    channels = {c.name: c for c in old.channels} | {c.name: c for c in change.channels}
    new = replace(old, half_lives=tuple(halves.values()), channels=tuple(channels.values()))
    for name in ("default_half_life", "alpha", "beta", "refuse_normaliser_updates"):
        value = getattr(change, name)
        if value is not None:
            new = replace(new, **{name: value})
    return judged(new, limits)


def judged(namespace: Namespace, limits: Limits) -> Namespace:
    """The namespace when every rule holds. Refused: INVALID, TOO_LARGE."""
    validation.half_lives(namespace.half_lives, limits)
    validation.channels(namespace.channels, limits)
    validation.exponents("alpha", namespace.alpha, "beta", namespace.beta)
    if namespace.default_half_life not in {h.name for h in namespace.half_lives}:
        raise Refused(E.INVALID, f"default_half_life_class {namespace.default_half_life[:64]!r} is no class of its own")
    return namespace


class Namespaces:
    """Create, configure, list."""

    def __init__(self, spaces: Spaces, writer: Writer, embedders: Embedders, limits: Limits) -> None:
        self._spaces, self._writer, self._embedders, self._limits = spaces, writer, embedders, limits

    async def create(self, caller: Caller, spec: NamespaceSpec) -> NamespaceInfo:
        """Make a namespace, or answer as the first time."""
        wanted = self._wanted(spec)
        info: NamespaceInfo = await self._writer.put(
            CreateCommand(self._spaces, caller.principal, wanted, self._limits)
        )
        return info

    async def configure(self, caller: Caller, change: NamespaceChange) -> NamespaceInfo:
        """Change scoring parameters."""
        self._spaces.get(change.name)
        validation.half_lives(change.half_lives, self._limits)
        info: NamespaceInfo = await self._writer.put(
            ConfigureCommand(self._spaces, caller.principal, change, self._limits)
        )
        return info

    def list_all(self) -> list[NamespaceInfo]:
        """Every namespace, by name."""
        return [space.info() for space in self._spaces]

    def _wanted(self, spec: NamespaceSpec) -> Namespace:
        """A spec with its defaults filled in. Refused: INVALID, DIMENSION."""
        validation.namespace_spec(spec, self._limits)
        dim, fingerprint = spec.dim, ""
        if spec.embedder:
            embedder = self._embedders.named(spec.embedder)
            fingerprint = embedder.fingerprint
            if dim not in (0, embedder.dim):
                raise Refused(E.DIMENSION, f"dim is {dim}, but {fingerprint!r} makes vectors of {embedder.dim}")
            dim = embedder.dim
        if not dim:
            raise Refused(E.INVALID, "dim is missing; give 8 to 4096, or an embedder")
        halves = spec.half_lives or (INFINITE,)
        return judged(
            Namespace(
                ns_id=0,
                name=spec.name,
                dim=dim,
                embedder=fingerprint,
                half_lives=halves,
                default_half_life=spec.default_half_life or halves[0].name,
                channels=spec.channels,
                alpha=1.0 if spec.alpha is None else spec.alpha,
                beta=1.0 if spec.beta is None else spec.beta,
                refuse_normaliser_updates=False,
                config_version=1,
                created_seq=0,
            ),
            self._limits,
        )
