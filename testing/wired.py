"""An application as it sees itself: logs in to every server with nothing but what its wire-up gave it.

For tests on a real cluster. Nothing here has an administrator's rights; what an application cannot do, this cannot.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import hvac

from playbook.kube import Reader, Writer
from playbook.target import Target
from playbook.wiring import kafka, postgres, redis
from playbook.wiring.application import Application, application
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.reach import Reach
from playbook.wiring.secrets import Sealed

T = TypeVar("T")


@dataclass(slots=True)
class Wired:
    """One wired application on one cluster."""

    app: Application
    context: str
    reader: Reader

    @classmethod
    @contextlib.contextmanager
    def on(cls, context: str, name: str, env: str = "dev") -> Iterator[Wired]:
        """The application of that name."""
        reader = Writer(context)
        try:
            yield cls(application(name, env), context, reader)
        finally:
            reader.close()

    @property
    def reach(self) -> Reach:
        """The cluster as this application's wire-up sees it."""
        return Reach(Target(context=self.context, app=self.app), self.reader)

    @property
    def at(self) -> Endpoints:
        """The published addresses."""
        return self.reach.endpoints()

    @property
    def secret(self) -> Sealed:
        """What its pods get."""
        found = self.reach.secret(self.app.runtime, self.app.namespace)
        assert found is not None, f"there is no Secret {self.app.runtime}"
        return found

    @contextlib.contextmanager
    def database(self, name: str = "", secret: Sealed | None = None) -> Iterator[Any]:
        """A connection to a database (its own by default) as its own role."""
        password = (secret or self.secret).get("POSTGRES_PASSWORD")
        with postgres.connected(
            self.reach, self.at, name or self.app.name, self.app.name, password, writing=True
        ) as connection:
            yield connection

    @contextlib.contextmanager
    def cache(self, secret: Sealed | None = None) -> Iterator[Any]:
        """A Redis client as its own user."""
        password = (secret or self.secret).get("REDIS_PASSWORD")
        pod = redis.nodes(self.reach, self.at)[0]
        with redis.connected(self.reach, self.at, pod, self.app.name, password, writing=True) as client:
            yield client

    def broker(self, ask: Callable[[Any], Awaitable[T]], secret: Sealed | None = None) -> T:
        """What `ask` gets from Kafka as its own SCRAM user."""
        login = kafka.Login(9092, "SCRAM-SHA-512", self.app.name, (secret or self.secret).get("KAFKA_SASL_PASSWORD"))
        return kafka.asked(self.reach, self.at, login, ask)

    def token(self, audience: str = "vault") -> str:
        """A token of its ServiceAccount, as its pods would be given."""
        argv = ["kubectl", "--context", self.context, "-n", self.app.namespace, "create", "token", self.app.account,
                "--audience", audience]  # fmt: skip
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    @contextlib.contextmanager
    def vault(self, role: str = "", audience: str = "vault", token: str = "") -> Iterator[Any]:
        """An hvac client logged in with its ServiceAccount's token (or with one that it had)."""
        _, host, port = self.at.vault()
        with self.reach.address(host, port, self.at) as (name, local):
            client = hvac.Client(url=f"http://{name}:{local}", timeout=15)
            try:
                answer = client.auth.kubernetes.login(role=role or self.app.name, jwt=token or self.token(audience))
                client.token = answer["auth"]["client_token"]
                yield client
            finally:
                client.adapter.close()


def journals(state: str) -> str:
    """Everything that runs have journalled below a state folder, as one text."""
    return "\n".join(path.read_text() for path in Path(state).rglob("*.jsonl"))


def records(text: str) -> list[dict[str, Any]]:
    """The records of a journal."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]
