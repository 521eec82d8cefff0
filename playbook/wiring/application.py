"""An application's names. Every name that its wire-up uses follows from here, so that no two parts can disagree.

The rule it guards: one application's name never matches another's in any server. A name is a DNS label, so it holds
none of the characters that delimit Kafka's prefixes, Redis's patterns and Vault's paths, and the names of the servers'
own users are not to be had.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from playbook.trouble import Trouble

NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
RESERVED = frozenset(
    {"admin", "default", "infra", "kafka", "pgpool", "postgres", "probe", "public", "redis", "repmgr", "root",
     "template0", "template1", "vault", "none", "control-group", "response-wrapping",
     "false", "n", "no", "null", "off", "on", "true", "y", "yes"}
)  # fmt: skip
"""Users, roles, databases and policies that the servers have or keep for themselves: an application of that name would
be them, or could not be made. And the words that YAML reads as no text."""
OURS = ("pg-", "sfmctl")
"""How names begin that Postgres' nodes and the Jobs of this program have."""
SYSTEM_NAMESPACES = ("kube-", "soma-infra", "external-secrets")


@dataclass(frozen=True, slots=True)
class Application:
    """One application in one environment."""

    name: str
    env: str
    namespace: str

    @property
    def account(self) -> str:
        """Its ServiceAccount."""
        return f"{self.name}-sa"

    @property
    def secret_path(self) -> str:
        """Where its secrets are, below the mount `secret/`."""
        return f"shared-infra/{self.name}/{self.env}"

    @property
    def runtime(self) -> str:
        """The Secret that its pods read."""
        return f"{self.name}-runtime"

    @property
    def external_secret(self) -> str:
        """The ExternalSecret that keeps it in step with Vault."""
        return f"{self.name}-secrets"

    @property
    def settings(self) -> str:
        """The ConfigMap with its addresses and names."""
        return f"{self.name}-settings"

    @property
    def topics(self) -> tuple[str, str]:
        """Its events, and what could not be handled of them."""
        return f"{self.name}.events", f"{self.name}.events.dlq"

    @property
    def redis_file(self) -> str:
        """The key of its line in the Secret that Redis loads its users from."""
        return f"{self.name}.acl"

    def __str__(self) -> str:
        return f"{self.name} in namespace {self.namespace} ({self.env})"


def application(name: str, env: str, namespace: str = "") -> Application:
    """The application of that name; Trouble when the name or the namespace cannot be used."""
    if not NAME.fullmatch(name):
        raise Trouble("SFM-APP-001", f"{name!r} cannot be an application's name",
                      why="a name is 1 to 40 lower-case letters, digits and hyphens, begins with a letter and does "
                      "not end with a hyphen")  # fmt: skip
    if name in RESERVED or name.startswith(OURS):
        raise Trouble("SFM-APP-001", f"{name!r} cannot be an application's name",
                      why="a server, this program or YAML has that word for itself")  # fmt: skip
    where = namespace or name
    if not NAME.fullmatch(where) and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", where):
        raise Trouble("SFM-APP-001", f"{where!r} cannot be a namespace's name")
    if where.startswith(SYSTEM_NAMESPACES) or where == "default":
        raise Trouble("SFM-APP-002", f"an application is not wired into the namespace {where}",
                      why="it belongs to the cluster or to the shared infrastructure")  # fmt: skip
    return Application(name, env, where)
