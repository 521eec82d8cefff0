"""The Kubernetes objects of an application's wire-up, as desired state, and what differs in those that are there. Pure.

Comparison is by inclusion: whatever we set has to be there, and what the API server or others add is not ours to mind.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from playbook.wiring.access import AUDIENCE
from playbook.wiring.application import Application
from playbook.wiring.endpoints import NAME as ENDPOINTS
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.secrets import KEYS

ADMITS = "soma.sh/allow-shared-infra"
STORE = "soma-infra-vault"
CA = "sharedinfra-ca"
REFRESH = "1h"
ESO_GROUP = "external-secrets.io"
ESO_VERSIONS = ("v1", "v1beta1")
"""The versions of the operator's API that these objects fit, best first."""
Json = dict[str, Any]


def labels(app: Application) -> dict[str, str]:
    """The labels of everything that the wire-up makes."""
    return {"app.kubernetes.io/managed-by": "sfmctl", "app.kubernetes.io/part-of": app.name}


def meta(app: Application, name: str) -> Json:
    """Metadata of an object in the application's namespace."""
    return {"name": name, "namespace": app.namespace, "labels": labels(app)}


def namespace(app: Application) -> Json:
    """The namespace, admitted to the shared infrastructure."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app.namespace, "labels": {ADMITS: "true"}}}


def account(app: Application) -> Json:
    """The ServiceAccount."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(app, app.account)}


def config_map(app: Application, name: str, data: Mapping[str, str]) -> Json:
    """One ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(app, name), "data": dict(data)}


def settings(app: Application, at: Endpoints) -> tuple[Json, ...]:
    """The application's own settings, its copy of the endpoints, and the authorities' certificates."""
    own = {
        "APP_NAME": app.name,
        "APP_ENV": app.env,
        "POSTGRES_HOST": at.need("POSTGRES_HOST"),
        "POSTGRES_PORT": at.need("POSTGRES_PORT"),
        "POSTGRES_DB": app.name,
        "POSTGRES_USER": app.name,
        "REDIS_URL": at.need("REDIS_URL"),
        "REDIS_USERNAME": app.name,
        "REDIS_KEY_PREFIX": f"{app.name}:",
        "KAFKA_BOOTSTRAP_SERVERS": at.need("KAFKA_BOOTSTRAP_SERVERS"),
        "KAFKA_SECURITY_PROTOCOL": at.need("KAFKA_SECURITY_PROTOCOL"),
        "KAFKA_SASL_MECHANISM": at.need("KAFKA_SASL_MECHANISM"),
        "KAFKA_SASL_USERNAME": app.name,
        "KAFKA_TOPIC_EVENTS": app.topics[0],
        "KAFKA_TOPIC_EVENTS_DLQ": app.topics[1],
        "OPA_URL": at.values.get("OPA_URL", ""),
        "VAULT_ADDR": at.need("VAULT_ADDR"),
        "VAULT_ROLE": app.name,
        "VAULT_PATH": f"secret/data/{app.secret_path}",
    }
    made = [config_map(app, app.settings, own), config_map(app, ENDPOINTS, at.values)]
    if authorities := at.authorities():
        made.append(config_map(app, CA, authorities))
    return tuple(made)


def store(app: Application, at: Endpoints, version: str) -> Json:
    """The SecretStore: this application's role and ServiceAccount, usable from its namespace alone."""
    vault: Json = {
        "server": at.need("VAULT_ADDR"),
        "path": "secret",
        "version": "v2",
        "auth": {
            "kubernetes": {
                "mountPath": "kubernetes",
                "role": app.name,
                "serviceAccountRef": {"name": app.account, "audiences": [AUDIENCE]},
            }
        },
    }
    if vault["server"].startswith("https://") and (ca := at.trusted("vault")):
        vault["caBundle"] = base64.b64encode(ca.encode()).decode()
    return {
        "apiVersion": f"{ESO_GROUP}/{version}",
        "kind": "SecretStore",
        "metadata": meta(app, STORE),
        "spec": {"provider": {"vault": vault}},
    }


def external_secret(app: Application, version: str) -> Json:
    """The ExternalSecret: the application's Vault path, key by key, into its runtime Secret."""
    return {
        "apiVersion": f"{ESO_GROUP}/{version}",
        "kind": "ExternalSecret",
        "metadata": meta(app, app.external_secret),
        "spec": {
            "refreshInterval": REFRESH,
            "secretStoreRef": {"name": STORE, "kind": "SecretStore"},
            "target": {"name": app.runtime, "creationPolicy": "Owner", "deletionPolicy": "Retain"},
            "data": [
                {"secretKey": key, "remoteRef": {"key": app.secret_path, "property": key}} for key in sorted(KEYS)
            ],
        },
    }


def differences(wanted: Any, there: Any, at: str = "") -> list[str]:
    """The places below `at` where `there` lacks or contradicts what is `wanted`."""
    if isinstance(wanted, Mapping):
        if not isinstance(there, Mapping):
            return [at or "the whole"]
        return [
            d for key, value in wanted.items() for d in differences(value, there.get(key), f"{at}.{key}".lstrip("."))
        ]
    if isinstance(wanted, list):
        if not isinstance(there, list) or len(there) != len(wanted):
            return [at]
        return [d for i, value in enumerate(wanted) for d in differences(value, there[i], f"{at}[{i}]")]
    return [] if wanted == there else [at]


def contradicted(wanted: Json, there: Json | None) -> list[str]:
    """What is wrong with one object that is there (None: it is not), in words; values are never shown."""
    what = f"{wanted['kind']} {wanted['metadata']['name']}"
    if there is None:
        return [f"{what} is absent"]
    wanting = differences({k: v for k, v in wanted.items() if k not in ("apiVersion", "kind")}, there)
    if wanted["kind"] == "ConfigMap":
        extra = set(there.get("data") or {}) - set(wanted["data"])
        wanting += [f"data.{key} is not ours" for key in sorted(extra)]
    return [f"{what} differs in {', '.join(wanting)}"] if wanting else []


def collection(wanted: Json) -> str:
    """The API path of an object's collection."""
    plural = {"SecretStore": "secretstores", "ExternalSecret": "externalsecrets", "ConfigMap": "configmaps",
              "ServiceAccount": "serviceaccounts"}[wanted["kind"]]  # fmt: skip
    api = wanted["apiVersion"]
    group = f"/apis/{api}" if "/" in api else f"/api/{api}"
    return f"{group}/namespaces/{wanted['metadata']['namespace']}/{plural}"


def path(wanted: Json) -> str:
    """The API path of one object."""
    if wanted["kind"] == "Namespace":
        return f"/api/v1/namespaces/{wanted['metadata']['name']}"
    return f"{collection(wanted)}/{wanted['metadata']['name']}"
