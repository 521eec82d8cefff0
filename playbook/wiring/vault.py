"""Vault through hvac: what an application's wire-up needs there, looked at and made.

While a plan is being made only `ReadSession` is used: it sends GET and LIST and refuses the rest, so a dry run cannot
write whatever the code above it does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import requests

from playbook.kube import WriteRefused
from playbook.trouble import Trouble, Unknown
from playbook.wiring import access
from playbook.wiring.application import Application
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.reach import Reach, ca_file
from playbook.wiring.secrets import Sealed

MOUNT = "secret"
AUTH = "kubernetes"
REVIEWER = "https://kubernetes.default.svc"
TIMEOUT_S = 20
NOT_READY = "SFM-VLT-020"
"""The code of what only the owner of a Vault that is run elsewhere may mend."""


class ReadSession(requests.Session):
    """A session that cannot write."""

    def request(self, method: str, *args: Any, **kwargs: Any) -> requests.Response:
        if method.upper() not in ("GET", "LIST", "HEAD"):
            raise WriteRefused(f"a read-only run does not send {method.upper()} to Vault")
        return super().request(method, *args, **kwargs)


@contextlib.contextmanager
def opened(reach: Reach, at: Endpoints, *, writing: bool = False) -> Iterator[Any]:
    """An hvac client of the active node, as administrator."""
    import hvac

    scheme, host, port = at.vault()
    token = reach.admin("vault", "dev-root-token", "VAULT_TOKEN", "SFM-VLT-010")
    service = at.service(host)
    with contextlib.ExitStack() as stack:
        verify: str | bool = stack.enter_context(ca_file(at.trusted("vault"))) or True
        for pod in reach.pods(service) if service else [""]:
            name, local = stack.enter_context(reach.address(host, port, at, pod=pod))
            url = f"{scheme}://{'localhost' if name == '127.0.0.1' else name}:{local}"
            session = requests.Session() if writing else ReadSession()
            stack.callback(session.close)
            session.trust_env = not service
            session.verify = verify  # hvac leaves a session that it is given as it is
            client = hvac.Client(url=url, token=token, verify=verify, session=session, timeout=TIMEOUT_S)
            with worded("look at Vault"):
                leader = client.sys.read_leader_status()
            if not leader.get("ha_enabled") or leader.get("is_self") or not service:
                with worded("use Vault"):
                    yield client
                return
        raise Unknown("SFM-VLT-002", "none of Vault's nodes is the active one")


@contextlib.contextmanager
def worded(doing: str) -> Iterator[None]:
    """hvac's and requests' errors as trouble with a code."""
    import hvac.exceptions as wrong

    try:
        yield
    except wrong.Forbidden as error:
        raise Unknown("SFM-VLT-011", f"Vault refuses to let us {doing}", why=str(error)) from error
    except wrong.VaultDown as error:
        raise Unknown("SFM-VLT-001", "Vault is sealed", why=str(error)) from error
    except (wrong.VaultError, requests.RequestException) as error:
        raise Unknown("SFM-VLT-002", f"could not {doing}: Vault gave no good answer", why=str(error)[:300]) from error


def mounts_wanting(client: Any, wrong_code: str = "SFM-VLT-012") -> list[str]:
    """What the mounts lack: KV version 2 at `secret/`, and the Kubernetes auth method, which knows a reviewer.

    Which API server reviews is not ours to judge once somebody has said it: this cluster has it under several names,
    and a method that serves other clusters must not be turned to ours. Trouble of `wrong_code` for another mount there.
    """
    found = client.sys.list_mounted_secrets_engines()["data"].get(f"{MOUNT}/")
    wanting = [] if found else [f"no KV mount at {MOUNT}/"]
    if found and (found["type"] != "kv" or (found.get("options") or {}).get("version") != "2"):
        raise Trouble(wrong_code, f"the mount {MOUNT}/ is no KV version 2", why=f"it is {found['type']}")
    if f"{AUTH}/" not in client.sys.list_auth_methods()["data"]:
        return [*wanting, "Kubernetes auth is off"]
    return wanting if reviewer(client) else [*wanting, "Kubernetes auth knows no reviewer"]


def reviewer(client: Any) -> str:
    """The API server that the Kubernetes auth method asks; empty before it was configured."""
    return str((read(client, f"auth/{AUTH}/config") or {}).get("kubernetes_host") or "")


def left_to_the_owner(client: Any, host: str) -> str:
    """What is left as it is in a Vault that is run elsewhere; Trouble when it lacks what only its owner may make."""
    if wanting := mounts_wanting(client, NOT_READY):
        raise Trouble(NOT_READY, f"the Vault at {host} is not ready for applications", why="; ".join(wanting))
    return f"{host}, whose owner keeps {MOUNT}/ and auth/{AUTH} (which asks {reviewer(client)})"


def make_mounts(client: Any) -> None:
    """Enable and configure what `mounts_wanting` names."""
    if f"{MOUNT}/" not in client.sys.list_mounted_secrets_engines()["data"]:
        client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
    if f"{AUTH}/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method("kubernetes", path=AUTH)
    if not reviewer(client):
        client.auth.kubernetes.configure(kubernetes_host=REVIEWER, mount_point=AUTH)


def read(client: Any, path: str) -> dict[str, Any] | None:
    """The data at an API path (None: nothing is there)."""
    import hvac.exceptions as wrong

    try:
        found = client.read(path)
    except wrong.InvalidPath:
        return None
    return dict(found["data"]) if found else None


def policy_wanting(client: Any, app: Application) -> list[str]:
    """What is wrong with the application's policy."""
    found = read(client, f"sys/policies/acl/{app.name}")
    if found is None:
        return [f"policy {app.name} is absent"]
    return [] if found["policy"].strip() == access.policy(app).strip() else [f"policy {app.name} grants something else"]


def role_wanting(client: Any, app: Application) -> list[str]:
    """What is wrong with the application's role."""
    found = read(client, f"auth/{AUTH}/role/{app.name}")
    if found is None:
        return [f"role {app.name} is absent"]
    wrong = [key for key, value in access.role(app).items() if found.get(key) != value]
    return [f"role {app.name} differs in {', '.join(wrong)}"] if wrong else []


def bound_to(client: Any, app: Application) -> list[str]:
    """The namespaces whose ServiceAccount the application's role lets in; none when there is no role."""
    found = read(client, f"auth/{AUTH}/role/{app.name}") or {}
    return [str(name) for name in found.get("bound_service_account_namespaces") or []]


def secrets_of(client: Any, app: Application) -> Sealed:
    """The application's secret values; none when nothing was ever written, or the last version was deleted."""
    import hvac.exceptions as wrong

    try:
        found = client.secrets.kv.v2.read_secret_version(
            app.secret_path, mount_point=MOUNT, raise_on_deleted_version=False
        )
    except wrong.InvalidPath:
        return Sealed({})
    return Sealed(dict(found["data"]["data"] or {}))


def write_secrets(client: Any, app: Application, values: Sealed) -> None:
    """A new version of the application's secret values."""
    client.secrets.kv.v2.create_or_update_secret(app.secret_path, dict(values.values), mount_point=MOUNT)


def apply_policy(client: Any, app: Application) -> None:
    """Write the policy."""
    client.sys.create_or_update_acl_policy(app.name, access.policy(app))


def apply_role(client: Any, app: Application) -> None:
    """Write the role."""
    client.write_data(f"auth/{AUTH}/role/{app.name}", data=access.role(app))


def remove_access(client: Any, app: Application) -> None:
    """Take role and policy away; the values stay."""
    with contextlib.suppress(_absent()):
        client.delete(f"auth/{AUTH}/role/{app.name}")
    with contextlib.suppress(_absent()):
        client.sys.delete_acl_policy(app.name)


def remove_secrets(client: Any, app: Application) -> None:
    """Erase every version of the application's secret values."""
    client.secrets.kv.v2.delete_metadata_and_all_versions(app.secret_path, mount_point=MOUNT)


def _absent() -> type[Exception]:
    import hvac.exceptions as wrong

    return wrong.InvalidPath  # type: ignore[no-any-return]
