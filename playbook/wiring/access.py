"""What an application may do in each server, as that server's own words. Pure, and the place to read what is allowed.

The rule it guards: everything is confined to the application's own name, and nothing tells it what others have.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from playbook.wiring.application import Application

AUDIENCE = "vault"
TOKEN_TTL_S = 24 * 3600


def policy(app: Application) -> str:
    """The Vault policy: read exactly one path."""
    return f'path "secret/data/{app.secret_path}" {{\n  capabilities = ["read"]\n}}\n'


def role(app: Application) -> dict[str, Any]:
    """The Vault role: one ServiceAccount of one namespace, for tokens that were made for Vault."""
    return {
        "bound_service_account_names": [app.account],
        "bound_service_account_namespaces": [app.namespace],
        "audience": AUDIENCE,
        "token_policies": [app.name],
        "token_ttl": TOKEN_TTL_S,
        "token_max_ttl": TOKEN_TTL_S,
    }


REDIS_DENIED = (
    "-@admin",
    "-@dangerous",
    "-scan",  # these four tell the names or the number of keys that are not the application's
    "-randomkey",
    "-dbsize",
    "-pubsub",
    "-function",  # functions and scripts are one library for all users
    "-script|flush",
    "-script|kill",
)


def redis_user(app: Application, password: str) -> str:
    """The line of Redis's ACL file: only the digest of the password, only keys and channels below `<app>:`."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user {app.name} on #{digest} ~{app.name}:* resetchannels &{app.name}:* +@all {' '.join(REDIS_DENIED)}"


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One allowing ACL of Kafka, in Kafka's words."""

    resource: str
    pattern: str
    name: str
    operation: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}{'*' if self.pattern == 'PREFIXED' else ''}"


def kafka_acls(app: Application) -> frozenset[Acl]:
    """What the application may do in Kafka: use its topics (not make or change them), its groups, its transactions."""
    mine = f"{app.name}."
    return frozenset(
        [
            *(Acl("TOPIC", "PREFIXED", mine, op) for op in ("READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS")),
            *(Acl("GROUP", "PREFIXED", mine, op) for op in ("READ", "DESCRIBE")),
            *(Acl("GROUP", "LITERAL", app.name, op) for op in ("READ", "DESCRIBE")),
            *(Acl("TRANSACTIONAL_ID", "PREFIXED", mine, op) for op in ("WRITE", "DESCRIBE")),
        ]
    )
