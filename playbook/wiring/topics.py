"""An application's topics: what is wanted, what is there, and the way from one to the other. Pure.

Rules it guards: partitions only grow (keys would move, and Kafka refuses it); a replication factor that differs is told
and left alone (changing it moves data between brokers, which is an operation of its own); settings that are not ours
are not touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playbook.wiring.application import Application
from playbook.wiring.endpoints import Endpoints

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic; `config` holds only the settings that we set."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The topic as JSON has it."""
        return {
            "partitions": self.partitions,
            "replicationFactor": self.replication_factor,
            "config": dict(self.config),
        }


@dataclass(frozen=True, slots=True)
class TopicChange:
    """What lies between one wanted topic and the one that is there (None: it is not).

    `ours` is false where Kafka is run elsewhere: nothing was looked at, and its operator makes what is wanted.
    """

    wanted: Topic
    current: Topic | None
    ours: bool = True

    @property
    def grow(self) -> bool:
        """Whether partitions have to be added."""
        return self.current is not None and self.current.partitions < self.wanted.partitions

    @property
    def settings(self) -> dict[str, tuple[str, str]]:
        """The settings that differ, as (current, wanted)."""
        if self.current is None:
            return {}
        has = self.current.config
        return {k: (has.get(k, ""), v) for k, v in self.wanted.config.items() if has.get(k) != v}

    @property
    def action(self) -> str:
        """create, change or keep; elsewhere where it is not ours to do."""
        if not self.ours:
            return "elsewhere"
        if self.current is None:
            return "create"
        return "change" if self.grow or self.settings else "keep"

    @property
    def words(self) -> list[str]:
        """The change in words; empty when there is none, or none that is ours."""
        if not self.ours:
            return []
        if self.current is None:
            return [f"{self.wanted.name} is absent"]
        found = [f"{k} is {old or 'unset'}, wanted {new}" for k, (old, new) in sorted(self.settings.items())]
        if self.grow:
            found.insert(0, f"{self.current.partitions} partitions, wanted {self.wanted.partitions}")
        return [f"{self.wanted.name}: {words}" for words in found]

    @property
    def unfit(self) -> list[tuple[str, str]]:
        """What differs and is not changed by us, as (code, words)."""
        if self.current is None:
            return []
        found = []
        if self.current.replication_factor != self.wanted.replication_factor:
            found.append(("SFM-KAF-011", f"{self.wanted.name}: replication factor {self.current.replication_factor}, "
                                         f"wanted {self.wanted.replication_factor}"))  # fmt: skip
        if self.current.partitions > self.wanted.partitions:
            found.append(("SFM-KAF-012", f"{self.wanted.name}: {self.current.partitions} partitions, wanted "
                                         f"{self.wanted.partitions}; partitions only grow"))  # fmt: skip
        return found

    def as_dict(self) -> dict[str, Any]:
        """The change as JSON has it."""
        return {
            "topic": self.wanted.name,
            "action": self.action,
            "current": self.current.as_dict() if self.current else None,
            "wanted": self.wanted.as_dict(),
            "partitionGrowth": self.wanted.partitions - self.current.partitions if self.current and self.grow else 0,
            "configChanges": {k: {"current": old, "wanted": new} for k, (old, new) in sorted(self.settings.items())},
            "unfit": [{"code": code, "what": what} for code, what in self.unfit],
        }


def wanted(app: Application, at: Endpoints) -> tuple[Topic, ...]:
    """The topics as the infrastructure's mode gives them to an application."""
    config = {
        "retention.ms": str(at.number("KAFKA_TOPIC_RETENTION_HOURS") * HOUR_MS),
        "min.insync.replicas": str(at.number("KAFKA_TOPIC_MIN_INSYNC_REPLICAS")),
        "cleanup.policy": "delete",
    }
    partitions, replicas = at.number("KAFKA_TOPIC_PARTITIONS"), at.number("KAFKA_TOPIC_REPLICATION_FACTOR")
    return tuple(Topic(name, partitions, replicas, config) for name in app.topics)


def left_to_the_operator(want: Sequence[Topic]) -> tuple[TopicChange, ...]:
    """The wanted topics of a Kafka that is run elsewhere."""
    return tuple(TopicChange(topic, None, ours=False) for topic in want)


def left_alone(found: Sequence[TopicChange]) -> list[str]:
    """What differs in the topics and is not changed by us, in words with their codes."""
    return [f"{words} ({code})" for change in found for code, words in change.unfit]


def changes(want: Sequence[Topic], there: Mapping[str, Topic]) -> tuple[TopicChange, ...]:
    """One change per wanted topic, in their order."""
    return tuple(TopicChange(topic, there.get(topic.name)) for topic in want)
