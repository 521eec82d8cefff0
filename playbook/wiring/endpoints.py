"""Where the shared infrastructure is: the ConfigMap that its chart publishes, read into names.

Nothing here guesses an address: what the chart does not publish is not there, and the part of the wire-up that needs it
says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from playbook.trouble import Trouble

NAME = "sharedinfra-endpoints"
SERVERS = ("vault", "postgres", "redis", "kafka")
"""What an application is wired to, each run by the release or by somebody else."""
CA_FOLDER = "/etc/soma-infra"
"""Where an application's pods find the certificates of the authorities, where there are any."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The published addresses and, for topics, what the mode gives an application. `ca` is the authority behind the
    release's own servers; that of a server that is run elsewhere is published with its address."""

    values: Mapping[str, str]
    namespace: str
    ca: str = ""

    def need(self, key: str) -> str:
        """The value of `key`; Trouble when the infrastructure does not publish it."""
        found = self.values.get(key, "")
        if not found:
            raise Trouble("SFM-APP-004", f"the shared infrastructure publishes no {key}",
                          why=f"the ConfigMap {NAME} in {self.namespace} lacks it: is the component switched on?",
                          )  # fmt: skip
        return found

    def number(self, key: str) -> int:
        """The value of `key` as a number."""
        return int(self.need(key))

    @property
    def mode(self) -> str:
        """The mode that the infrastructure runs in."""
        return self.values.get("SOMA_INFRA_MODE", "")

    @property
    def tls(self) -> bool:
        """Whether the release's own Postgres, Kafka and Redis speak TLS."""
        return self.values.get("TLS_ENABLED") == "true"

    def service(self, host: str) -> str:
        """The Service in the infra namespace behind `host`; empty when it is somewhere else."""
        labels = host.split(".")
        inside = len(labels) > 2 and labels[1] == self.namespace and labels[2] == "svc"
        return labels[0] if inside else ""

    def host(self, server: str) -> str:
        """Where one of SERVERS is; of several brokers the first."""
        if server == "vault":
            return self.vault()[1]
        if server == "kafka":
            return self.need("KAFKA_BOOTSTRAP_SERVERS").split(",")[0].rsplit(":", 1)[0]
        return self.need(f"{server.upper()}_HOST")

    def elsewhere(self, server: str) -> str:
        """The host of a server that the release does not run itself; empty for one of its own."""
        host = self.host(server)
        return "" if self.service(host) else host

    def trusted(self, server: str) -> str:
        """The certificate of the authority behind one of SERVERS; empty: what the machine trusts."""
        return self.values.get(f"{server.upper()}_CA", "") if self.elsewhere(server) else self.ca

    def authorities(self) -> dict[str, str]:
        """Every such certificate by the name of its file in CA_FOLDER."""
        found = {"ca.crt": self.ca, **{f"{s}.crt": self.values.get(f"{s.upper()}_CA", "") for s in SERVERS}}
        return {name: text for name, text in found.items() if text}

    def trusted_file(self, server: str) -> str:
        """Where an application's pods find the one for `server`; empty: they trust what their machine trusts."""
        if not self.trusted(server):
            return ""
        return f"{CA_FOLDER}/{server if self.elsewhere(server) else 'ca'}.crt"

    def vault(self) -> tuple[str, str, int]:
        """Vault's scheme, host and port."""
        at = urlsplit(self.need("VAULT_ADDR"))
        return at.scheme, at.hostname or "", at.port or (443 if at.scheme == "https" else 80)
