"""An application's secret values: made once, kept for ever, in Vault and in the Secret that is synced from it.

The rule it guards: a value is never replaced unless it is missing in both places, and nothing that is printed, planned
or journalled ever gets more than its key. `Sealed` makes that so: it shows its length and nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from playbook.wiring.application import Application
from playbook.wiring.endpoints import Endpoints

PASSWORDS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "KAFKA_SASL_PASSWORD")
KEYS = (*PASSWORDS, "POSTGRES_DSN")
PASSWORD_BYTES = 32
VERIFIED = "verify-full"
SYSTEM = "system"
"""libpq's word for the authorities that the machine trusts."""


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """Secret values by key; shows keys and lengths, never a value."""

    values: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Sealed({', '.join(f'{k}: {len(v)} bytes' for k, v in sorted(self.values.items()))})"

    def get(self, key: str) -> str:
        """One value; empty when it is not there."""
        return self.values.get(key, "")

    def differing(self, other: Sealed) -> list[str]:
        """The keys of KEYS whose values are not the same in both."""
        return [k for k in KEYS if self.get(k) != other.get(k)]

    def lacking(self) -> list[str]:
        """The keys of KEYS that are missing or empty."""
        return [k for k in KEYS if not self.get(k)]


def dsn(app: Application, at: Endpoints, password: str) -> str:
    """The connection string of the application's own database, through Pgpool or to a server that is run elsewhere."""
    host, port, mode = at.need("POSTGRES_HOST"), at.need("POSTGRES_PORT"), at.need("POSTGRES_SSLMODE")
    root = f"&sslrootcert={at.trusted_file('postgres') or SYSTEM}" if mode == VERIFIED else ""
    return f"postgresql://{app.name}:{quote(password, safe='')}@{host}:{port}/{app.name}?sslmode={mode}{root}"


def completed(app: Application, at: Endpoints, in_vault: Sealed, in_cluster: Sealed) -> Sealed:
    """The whole set: what Vault has, else what the cluster's Secret still has, else something new and random."""
    made = {key: in_vault.get(key) or in_cluster.get(key) or secrets.token_urlsafe(PASSWORD_BYTES) for key in PASSWORDS}
    extra = {k: v for k, v in in_vault.values.items() if k not in KEYS}
    return Sealed({**extra, **made, "POSTGRES_DSN": dsn(app, at, made["POSTGRES_PASSWORD"])})
