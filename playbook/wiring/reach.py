"""From a target to the servers that an application is wired to: published addresses, tunnels, administrators' secrets.

Administrators' secrets are read from where the chart keeps them and live only in this process's memory. What the
infrastructure does not run itself (a managed Postgres, an operator's Kafka) is addressed directly, with the secret from
the environment.
"""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from playbook.kube import Reader
from playbook.target import Target
from playbook.trouble import Unknown
from playbook.tunnel import Way, pods_of, tunnel
from playbook.wiring.application import Application
from playbook.wiring.endpoints import NAME, Endpoints
from playbook.wiring.secrets import Sealed


@dataclass(frozen=True, slots=True)
class Reach:
    """One target as its wire-up sees it; it only ever reads the API server."""

    target: Target
    reader: Reader

    @property
    def app(self) -> Application:
        """The application that the run is about."""
        if self.target.app is None:
            raise ValueError("this target is about no application")
        return self.target.app

    @property
    def way(self) -> Way:
        """Where tunnels into the infra namespace start."""
        return Way(self.target.context, self.target.kubeconfig, self.target.namespace)

    def endpoints(self) -> Endpoints:
        """What the shared infrastructure publishes; Unknown when it publishes nothing."""
        found = self.config_map(f"{self.target.release}-endpoints")
        if found is None:
            raise Unknown("SFM-APP-003", f"the ConfigMap {NAME} is not in {self.target.namespace}",
                          why="the shared infrastructure is not deployed on this cluster, or not by this program",
                          )  # fmt: skip
        return Endpoints(found, self.target.namespace, self.authority(found))

    def authority(self, published: Mapping[str, str]) -> str:
        """The certificate of the authority behind the infrastructure's TLS: the chart's own is in a ConfigMap, that of
        cert-manager or of Secrets that were brought along is beside a server's certificate. Empty without TLS."""
        if own := published.get("CA_CONFIGMAP"):
            kind, name, found = "ConfigMap", own, (self.config_map(own) or {}).get("ca.crt", "")
        elif beside := published.get("CA_SECRET"):
            kept = self.secret(beside)
            kind, name, found = "Secret", beside, kept.get("ca.crt") if kept else ""
        else:
            return ""
        if not found:
            why = f"the ConfigMap {NAME} in {self.target.namespace} names it for the authority"
            raise Unknown("SFM-APP-016", f"the {kind} {name} has no ca.crt", why=why)
        return found

    def config_map(self, name: str) -> dict[str, str] | None:
        """The data of a ConfigMap of the infra namespace (None: it is not there)."""
        found = self.reader.get(f"/api/v1/namespaces/{self.target.namespace}/configmaps/{name}")
        return None if found is None else dict(found.get("data") or {})

    def secret(self, name: str, namespace: str = "") -> Sealed | None:
        """The values of a Secret (None: it is not there)."""
        found = self.reader.get(f"/api/v1/namespaces/{namespace or self.target.namespace}/secrets/{name}")
        if found is None:
            return None
        return Sealed({k: base64.b64decode(v).decode() for k, v in (found.get("data") or {}).items()})

    def admin(self, component: str, key: str, variable: str, code: str) -> str:
        """An administrator's secret: of the environment, else of the chart's own Secret; else Unknown."""
        given = os.environ.get(variable) or from_file(f"{variable}_FILE", code)
        if given:
            return given
        kept = self.secret(f"{self.target.release}-{component}")
        if kept is None or not kept.get(key):
            raise Unknown(code, f"no administrator's secret for {component} is known",
                          why=f"the Secret {self.target.release}-{component} has no {key}, and {variable} is not set",
                          )  # fmt: skip
        return kept.get(key)

    def pods(self, service: str) -> list[str]:
        """The ready pods behind a Service of the infra namespace."""
        return pods_of(self.reader, self.target.namespace, service)

    @contextlib.contextmanager
    def address(self, host: str, port: int, at: Endpoints, *, pod: str = "") -> Iterator[tuple[str, int]]:
        """Host and port to connect to from here: a tunnel to what runs in the cluster, else the address itself."""
        service = at.service(host)
        if not service and not pod:
            yield host, port
            return
        with tunnel(self.way, pod or self.pods(service)[0], port) as local:
            yield "127.0.0.1", local


def from_file(variable: str, code: str) -> str:
    """The first line of the file that `variable` names; empty where it names none, Unknown where there is no line."""
    path = os.environ.get(variable, "")
    if not path:
        return ""
    try:
        secret = Path(path).read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or "it is no text"
        raise Unknown(code, f"the file {path} of {variable} cannot be read", why=why,
                      next_step=f"correct {variable}, or unset it") from error  # fmt: skip
    if not secret:
        raise Unknown(code, f"the file {path} of {variable} is empty", next_step=f"correct {variable}, or unset it")
    return secret


@contextlib.contextmanager
def ca_file(certificate: str) -> Iterator[str]:
    """An authority's certificate as a file, for libraries that take no other form; empty where there is none."""
    if not certificate:
        yield ""
        return
    with tempfile.NamedTemporaryFile("w", suffix=".crt", encoding="utf-8") as out:
        out.write(certificate)
        out.flush()
        yield out.name
