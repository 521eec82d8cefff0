"""Kafka as an application's wire-up sees it: topics, ACLs and the SCRAM user, looked at over tunnels, never written.

Kafka's clients go wherever the brokers say they are, and these names mean nothing outside the cluster. So looking is
done with aiokafka on an event loop that opens every connection through a tunnel to the pod of that name; and writing,
which needs calls that aiokafka does not have, is the work of a short Job inside (`playbook/wiring/kafka_job.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from playbook.trouble import Trouble, Unknown
from playbook.tunnel import tunnel
from playbook.wiring.access import Acl, kafka_acls
from playbook.wiring.application import Application
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.reach import Reach
from playbook.wiring.topics import Topic, TopicChange, changes, wanted

ADMIN = "admin"
INTERNAL_PORT = 9094
"""The listener for nodes and administrators: its users are in the chart's Secret, so it works before any SCRAM user."""
TIMEOUT_S = 20
T = TypeVar("T")
OPERATIONS = {3: "READ", 4: "WRITE", 8: "DESCRIBE", 10: "DESCRIBE_CONFIGS"}
RESOURCES = {2: "TOPIC", 3: "GROUP", 4: "CLUSTER", 5: "TRANSACTIONAL_ID"}
PATTERNS = {3: "LITERAL", 4: "PREFIXED"}
ANY = 1
ALLOW = 3
TOPIC_RESOURCE = 2


class TunnelLoop(asyncio.SelectorEventLoop):
    """An event loop whose connections to brokers lead through tunnels to their pods."""

    def __init__(self, reach: Reach, stack: contextlib.ExitStack) -> None:
        super().__init__()
        self._reach, self._stack = reach, stack
        self._ways: dict[tuple[str, int], int] = {}

    async def create_connection(  # type: ignore[override]
        self, factory: Any, host: Any = None, port: Any = None, **kwargs: Any
    ) -> Any:
        """As the base class, with `host` read as a pod's DNS name; TLS still verifies that name."""
        if (host, port) not in self._ways:
            pod = str(host).split(".", 1)[0]
            self._ways[host, port] = self._stack.enter_context(tunnel(self._reach.way, pod, int(port)))
        if kwargs.get("ssl") is not None:
            kwargs["server_hostname"] = host
        return await super().create_connection(factory, "127.0.0.1", self._ways[host, port], **kwargs)


def through_tunnels(reach: Reach, stack: contextlib.ExitStack, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on such a loop; the tunnels last as long as `stack`."""
    with asyncio.Runner(loop_factory=lambda: TunnelLoop(reach, stack)) as runner:
        return runner.run(work)


@dataclass(frozen=True, slots=True)
class Login:
    """One way to log in."""

    port: int
    mechanism: str
    user: str
    password: str


def bootstrap(reach: Reach, at: Endpoints, port: int) -> str:
    """A ready broker by its pod's DNS name; Trouble when Kafka is not ours to administer this way."""
    host = at.host("kafka")
    service = at.service(host)
    if not service:
        raise Trouble("SFM-KAF-014", "Kafka is run elsewhere", why=f"{host} is not a Service of {at.namespace}")
    pod = reach.pods(service)[0]
    domain = host.split(".svc.", 1)[-1]
    return f"{pod}.{service}-hl.{at.namespace}.svc.{domain}:{port}"


def asked(
    reach: Reach, at: Endpoints, login: Login, ask: Callable[[Any], Awaitable[T]], timeout_s: float = 2 * TIMEOUT_S
) -> T:
    """What `ask` finds with a client that is logged in; Unknown when no broker answers."""
    from aiokafka.errors import KafkaError

    start = bootstrap(reach, at, login.port)
    context = ssl.create_default_context(cadata=at.ca or None) if at.tls else None

    async def whole() -> T:
        from aiokafka.client import AIOKafkaClient

        client = AIOKafkaClient(
            bootstrap_servers=start, client_id="sfmctl", request_timeout_ms=TIMEOUT_S * 1000, ssl_context=context,
            security_protocol="SASL_SSL" if at.tls else "SASL_PLAINTEXT", sasl_mechanism=login.mechanism,
            sasl_plain_username=login.user, sasl_plain_password=login.password,
        )  # fmt: skip
        try:
            await client.bootstrap()
            return await ask(client)
        finally:
            await client.close()

    with contextlib.ExitStack() as stack, silenced("aiokafka"):
        try:
            return through_tunnels(reach, stack, asyncio.wait_for(whole(), timeout_s))
        except (KafkaError, TimeoutError, OSError) as error:
            raise Unknown("SFM-KAF-001", "Kafka gave no answer", why=f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def silenced(name: str) -> Iterator[None]:
    """A library's own log lines are not for the operator: what matters of them comes back as an exception."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def administrator(reach: Reach) -> Login:
    """The administrator's login."""
    password = reach.admin("kafka", "admin-password", "SFM_KAFKA_ADMIN_PASSWORD", "SFM-KAF-014")
    return Login(INTERNAL_PORT, "PLAIN", ADMIN, password)


@dataclass(frozen=True, slots=True)
class View:
    """A broker's view of the cluster; a partition is (`topic/number`, leader, replicas, in-sync replicas)."""

    brokers: frozenset[int]
    controller: int
    partitions: tuple[tuple[str, int, int, int], ...]


async def view(client: Any) -> View:
    """What the first broker says of the cluster."""
    from aiokafka.protocol.metadata import MetadataRequest

    said = (await client.send(client.get_random_node(), MetadataRequest(None))).to_object()
    return View(
        frozenset(b["node_id"] for b in said["brokers"]),
        said["controller_id"],
        tuple(
            (f"{topic['topic']}/{part['partition']}", part["leader"], len(part["replicas"]), len(part["isr"]))
            for topic in said["topics"]
            for part in topic["partitions"]
        ),
    )


async def topics_there(client: Any, names: tuple[str, ...], settings: tuple[str, ...]) -> dict[str, Topic]:
    """The topics of `names` that are there, with the values of `settings`."""
    from aiokafka.protocol.admin import DescribeConfigsRequest
    from aiokafka.protocol.metadata import MetadataRequest

    node = client.get_random_node()
    answer = await client.send(node, MetadataRequest(None))
    found = {t["topic"]: t["partitions"] for t in answer.to_object()["topics"] if t["topic"] in names}
    if not found:
        return {}
    asks = [(TOPIC_RESOURCE, name, list(settings)) for name in found]
    described = await client.send(node, DescribeConfigsRequest(asks, False))
    config: dict[str, dict[str, str]] = {}
    for one in described.to_object()["resources"]:
        config[one["resource_name"]] = {e["config_names"]: e["config_value"] for e in one["config_entries"]}
    return {
        name: Topic(name, len(parts), min((len(p["replicas"]) for p in parts), default=0), config.get(name, {}))
        for name, parts in found.items()
    }


async def acls_there(client: Any, user: str) -> frozenset[Acl]:
    """Every allowing ACL of one principal; what we have no word for keeps its number."""
    from aiokafka.protocol.admin import DescribeAclsRequest

    request = DescribeAclsRequest(ANY, None, ANY, f"User:{user}", None, ANY, ANY)
    answer = (await client.send(client.get_random_node(), request)).to_object()
    if answer["error_code"]:
        raise Unknown("SFM-KAF-001", "Kafka does not list its ACLs", why=str(answer["error_message"]))
    return frozenset(
        Acl(RESOURCES.get(r["resource_type"], "?"), pattern_of(r), r["resource_name"], operation_of(a))
        for r in answer["resources"]
        for a in r["acls"]
    )


def operation_of(acl: dict[str, Any]) -> str:
    """READ, WRITE, ...; an operation that we have no word for keeps its number, a denying ACL says so."""
    word = OPERATIONS.get(acl["operation"], str(acl["operation"]))
    return word if acl["permission_type"] == ALLOW else f"{word} (denied)"


def pattern_of(resource: dict[str, Any]) -> str:
    """LITERAL or PREFIXED, under the name that the protocol's version has for it."""
    number = resource.get("resource_pattern_type", 3)
    return PATTERNS.get(number, str(number))


def topic_changes(reach: Reach, at: Endpoints) -> tuple[TopicChange, ...]:
    """Current against wanted, for each of the application's topics."""
    return looked(reach, at)[0]


def looked(reach: Reach, at: Endpoints) -> tuple[tuple[TopicChange, ...], list[Acl], list[Acl]]:
    """In one session: the topics' changes, the ACLs to make, and those to take away; it is to have exactly its own."""
    want, acls = wanted(reach.app, at), kafka_acls(reach.app)

    async def ask(client: Any) -> tuple[dict[str, Topic], frozenset[Acl]]:
        topics = await topics_there(client, reach.app.topics, tuple(want[0].config))
        return topics, await acls_there(client, reach.app.name)

    topics, there = asked(reach, at, administrator(reach), ask)
    return changes(want, topics), sorted(acls - there), sorted(there - acls)


def logs_in(reach: Reach, at: Endpoints, password: str) -> bool:
    """Whether Kafka takes the application's SCRAM login."""

    async def nothing(client: Any) -> bool:
        return True

    if not password:
        return False
    try:
        return asked(reach, at, Login(9092, at.need("KAFKA_SASL_MECHANISM"), reach.app.name, password), nothing)
    except Unknown as error:
        # aiokafka words a refused bootstrap login as a failed connection, so ask again as the administrator:
        # when that works, it was the login that was refused.
        asked(reach, at, administrator(reach), nothing)
        del error
        return False


def access_words(app: Application, make: list[Acl], take: list[Acl], *, let_in: bool) -> list[str]:
    """What the SCRAM user and its ACLs lack, or have too much of, in words."""
    wrong = [f"{a} is not granted" for a in make]
    if len(make) == len(kafka_acls(app)):
        wrong = [f"user {app.name} has no ACL"]
    wrong += [f"{a} is granted and not wanted" for a in take]
    return wrong + ([] if let_in else [f"login of {app.name} is refused"])
