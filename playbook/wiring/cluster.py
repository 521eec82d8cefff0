"""The parts of a wire-up that are objects of the cluster: namespace, ServiceAccount, settings, store, runtime Secret.

Each part is looked at (`*_wanting`: what it lacks, in words) by a Reader and made by a Writer. The look is the same
before the plan and after the work, so a part that was made without its effect is a failure, never a success.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from playbook.kube import Json, Reader, Writer
from playbook.trouble import Trouble, Unknown
from playbook.wiring import objects
from playbook.wiring.application import NAME, Application
from playbook.wiring.endpoints import NAME as ENDPOINTS
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.secrets import Sealed

PAUSE_S = 0.5


def eso_version(reader: Reader) -> str:
    """The version of the External Secrets Operator's API to use; Unknown when the operator is not installed."""
    group = reader.get(f"/apis/{objects.ESO_GROUP}")
    served = {v["version"] for v in (group or {}).get("versions", [])}
    for version in objects.ESO_VERSIONS:
        if version in served:
            return version
    raise Unknown("SFM-ESO-001", "the External Secrets Operator is not installed on this cluster")


def wanting(reader: Reader, *wanted: Json) -> list[str]:
    """What each of the objects lacks."""
    return [w for one in wanted for w in objects.contradicted(one, reader.get(objects.path(one)))]


def there(reader: Reader, *wanted: Json) -> list[str]:
    """Which of the objects are there."""
    return [f"{one['kind']} {one['metadata']['name']}" for one in wanted if reader.get(objects.path(one)) is not None]


def apply(writer: Writer, *wanted: Json) -> str:
    """Apply the objects; a ConfigMap is replaced as a whole, since a key that is not ours is not wanted there."""
    for one in wanted:
        writer.apply(objects.path(one), one)
        if one["kind"] == "ConfigMap":
            has = (writer.get(objects.path(one)) or {}).get("data") or {}
            extra = {key: None for key in has if key not in one["data"]}
            if extra:
                writer.merge(objects.path(one), {"data": extra})
    return ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in wanted)


def remove(writer: Writer, *wanted: Json) -> str:
    """Delete the objects that are there."""
    gone = [one for one in wanted if writer.delete(objects.path(one))]
    return ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in gone) or "nothing was there"


def namespace_wanting(reader: Reader, app: Application) -> list[str]:
    """What the namespace lacks; Trouble while it is being deleted."""
    found = reader.get(f"/api/v1/namespaces/{app.namespace}")
    if found is not None and found["status"]["phase"] != "Active":
        raise Trouble("SFM-APP-015", f"the namespace {app.namespace} is {found['status']['phase']}")
    owner = owner_of(reader, app.namespace)
    if owner not in ("", app.name):
        raise Trouble("SFM-APP-020", f"the namespace {app.namespace} is that of {owner}")
    return wanting(reader, objects.namespace(app))


def owner_of(reader: Reader, namespace: str) -> str:
    """The application that is wired into the namespace; empty when none is. Its store and settings have fixed names."""
    return part_of(reader.get(f"/api/v1/namespaces/{namespace}/configmaps/{ENDPOINTS}"))


def wired(reader: Reader, besides: Application) -> list[str]:
    """The names of the other applications that are wired into this cluster."""
    chosen = {"labelSelector": "app.kubernetes.io/managed-by=sfmctl", "fieldSelector": f"metadata.name={ENDPOINTS}"}
    names = {part_of(one) for one in reader.items("/api/v1/configmaps", **chosen)}
    return sorted(name for name in names if NAME.fullmatch(name) and name != besides.name)


def part_of(one: Json | None) -> str:
    """The application that an object of a wire-up belongs to; empty when it says none."""
    return str(((one or {}).get("metadata", {}).get("labels") or {}).get("app.kubernetes.io/part-of", ""))


def namespace_admitted(reader: Reader, app: Application) -> list[str]:
    """The label that lets the namespace in, when it is there."""
    found = reader.get(f"/api/v1/namespaces/{app.namespace}")
    has = (found or {}).get("metadata", {}).get("labels", {}).get(objects.ADMITS)
    return [f"label {objects.ADMITS} of {app.namespace}"] if has is not None else []


def condition(found: Json | None) -> tuple[bool, str]:
    """Whether an object of the operator is Ready, and what it says about that."""
    for one in ((found or {}).get("status") or {}).get("conditions", []):
        if one["type"] == "Ready":
            return one["status"] == "True", f"{one.get('reason', '')}: {one.get('message', '')}".strip(": ")
    return False, "the operator has not looked at it yet"


def store_wanting(reader: Reader, app: Application, at: Endpoints) -> list[str]:
    """What the SecretStore lacks; the operator has to have found it valid."""
    wanted = objects.store(app, at, eso_version(reader))
    found = reader.get(objects.path(wanted))
    wrong = objects.contradicted(wanted, found)
    ready, words = condition(found)
    return wrong if wrong or ready else [f"SecretStore {objects.STORE} is not valid ({words})"]


def runtime_wanting(reader: Reader, app: Application, in_vault: Sealed, in_cluster: Sealed | None) -> list[str]:
    """What the ExternalSecret and the runtime Secret lack; every key has to be Vault's."""
    wanted = objects.external_secret(app, eso_version(reader))
    found = reader.get(objects.path(wanted))
    wrong = objects.contradicted(wanted, found)
    ready, words = condition(found)
    if not wrong and not ready:
        wrong.append(f"ExternalSecret {app.external_secret} is not synced ({words})")
    if in_cluster is None:
        return [*wrong, f"Secret {app.runtime} is absent"]
    return [*wrong, *(f"{key} of Secret {app.runtime} is not Vault's" for key in in_vault.differing(in_cluster))]


def apply_store(writer: Writer, app: Application, at: Endpoints, left_s: Callable[[], float]) -> str:
    """Apply the SecretStore and wait until the operator finds it valid."""
    wanted = objects.store(app, at, eso_version(writer))
    writer.apply(objects.path(wanted), wanted)
    while wrong := store_wanting(writer, app, at):
        if left_s() < 1:
            raise Trouble("SFM-ESO-002", f"the SecretStore of {app.name} did not become valid", why="; ".join(wrong))
        time.sleep(PAUSE_S)
    return f"SecretStore {objects.STORE} is valid"


def apply_runtime(writer: Writer, app: Application, look: Callable[[], list[str]], left_s: Callable[[], float]) -> str:
    """Apply the ExternalSecret, have it synced now, and wait until `look` finds nothing wanting."""
    wanted = objects.external_secret(app, eso_version(writer))
    writer.apply(objects.path(wanted), wanted)
    writer.merge(objects.path(wanted), {"metadata": {"annotations": {"force-sync": str(time.time_ns())}}})
    while wrong := look():
        if left_s() < 1:
            raise Trouble("SFM-ESO-003", f"the Secret {app.runtime} was not synced in time", why="; ".join(wrong))
        time.sleep(PAUSE_S)
    return f"Secret {app.runtime} has every key as Vault has it"
