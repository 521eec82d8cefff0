"""The Kubernetes API in two hands: a `Reader` that cannot write by construction, and a `Writer`.

Planning, status and `--dry-run` are only ever given a Reader. It keeps its HTTP client to itself, and that client is a
`GuardedRest`, which refuses every method but GET and HEAD and every path that acts although it is read (exec, attach,
port-forward, proxy). Objects are plain JSON: what the API server said, nothing lost in a model.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from playbook.trouble import Trouble, Unknown

READ_METHODS = frozenset({"GET", "HEAD"})
ACTING = frozenset({"exec", "attach", "portforward", "proxy"})
CONNECT_S = 3.0
READ_S = 15.0
READ_RETRIES = 2
RETRY_S = 0.5
MANAGER = "sfmctl"
LOADING = threading.Lock()
Json = dict[str, Any]


class WriteRefused(PermissionError):
    """A read-only client was asked to write: a bug of ours, stopped before it reached the API server."""


def guard(method: str, url: str) -> None:
    """Refuse whatever is not a plain read."""
    if method.upper() not in READ_METHODS or ACTING & set(urlsplit(url).path.split("/")):
        raise WriteRefused(f"a read-only run does not send {method.upper()} {urlsplit(url).path}")


def configuration(context: str, kubeconfig: Path | None = None) -> Any:
    """The client configuration of exactly this context; Unknown when the kubeconfig does not have it."""
    import yaml
    from kubernetes import client, config

    made = type.__call__(client.Configuration)
    try:
        # The library names its temporary certificate files before it has written them: two threads must not meet there.
        with LOADING:
            config.load_kube_config(str(kubeconfig) if kubeconfig else None, context, made, persist_config=False)
    except config.ConfigException as error:
        raise Unknown("SFM-K8S-002", f"the kubeconfig has no usable context {context!r}", why=str(error)) from error
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        file = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        told = isinstance(error, OSError | ValueError | yaml.YAMLError)  # the others come of a file of another form
        why = " ".join(str(error).split()) if told else "it is no mapping of clusters, users and contexts"
        raise Unknown("SFM-K8S-018", f"the kubeconfig {file} cannot be used", why=why) from error
    made.retries = False
    return made


class Reader:
    """Reads of one cluster."""

    guarded = True

    def __init__(self, context: str, kubeconfig: Path | None = None) -> None:
        from kubernetes.client.rest import RESTClientObject

        self.context = context
        self.kubeconfig = kubeconfig
        self._configuration = configuration(context, kubeconfig)

        class GuardedRest(RESTClientObject):
            def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
                guard(method, url)
                return super().request(method, url, *args, **kwargs)  # type: ignore[no-untyped-call]

        self._rest = (GuardedRest if self.guarded else RESTClientObject)(self._configuration)

    def close(self) -> None:
        """Let the connections go."""
        self._rest.pool_manager.clear()

    def _send(self, method: str, path: str, *arguments: Any, **named: Any) -> Any:
        """`_once`, and for a read again when the API server was only busy or refused the connection."""
        for _ in range(READ_RETRIES if method in READ_METHODS else 0):
            try:
                return self._once(method, path, *arguments, **named)
            except Unknown as unknown:
                if unknown.code != "SFM-K8S-001" or "timed out" in unknown.why:
                    raise
            time.sleep(RETRY_S)
        return self._once(method, path, *arguments, **named)

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        read_s: float = READ_S,
        as_text: bool = False,
    ) -> Any:
        """One request; the answer's JSON (or text), or None for 404. Unknown when it could not be had."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "*/*" if as_text else "application/json", "Content-Type": content_type}
        for setting in self._configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        url = self._configuration.host + path + ("?" + urlencode(dict(query)) if query else "")
        try:
            answer = self._rest.request(method, url, headers=headers, body=body, _request_timeout=(CONNECT_S, read_s))
            data = getattr(answer, "data", None)
            if data is None:
                data = answer.read()
            status = int(answer.status)
        except ApiException as error:
            status, data = int(error.status or 0), error.body or error.reason
        except HTTPError as error:
            raise Unknown(
                "SFM-K8S-001", f"the API server of {self.context} does not answer", why=short_reason(error)
            ) from error
        if status == 404:
            return None
        if status == 0:  # the library's sign for a connection that broke before any answer
            raise Unknown("SFM-K8S-001", f"the API server of {self.context} does not answer", why=worded(data))
        if not 200 <= status < 300:
            raise api_trouble(
                method, path, status, data.decode(errors="replace") if isinstance(data, bytes) else str(data)
            )
        if as_text:
            return data.decode(errors="replace") if isinstance(data, bytes) else str(data)
        try:
            answered = json.loads(data) if data else {}
        except ValueError:
            answered = None
        if not isinstance(answered, dict):
            what = f"what answers for {self.context} is no API server"
            raise Unknown("SFM-K8S-001", what, why=f"{method} {path} was answered with {worded(data)[:100]!r}")
        return answered

    def text(self, path: str, **query: Any) -> str:
        """The answer of a read as text, such as a log; empty when it is not there."""
        return str(self._send("GET", path, query, as_text=True) or "")

    def get(self, path: str, **query: Any) -> Json | None:
        """One object (None: it is not there)."""
        found = self._send("GET", path, query)
        return found if isinstance(found, dict) else None

    def items(self, path: str, **query: Any) -> list[Json]:
        """The objects of a list, all pages; a kind that is not served has none."""
        found: list[Json] = []
        more = ""
        while True:
            page = self._send("GET", path, {"limit": 500, **query, **({"continue": more} if more else {})})
            if page is None:
                return found
            found += page.get("items") or []
            more = page.get("metadata", {}).get("continue") or ""
            if not more:
                return found

    def version(self) -> str:
        """The API server's version: the cheapest proof that it answers and knows us."""
        return str((self.get("/version") or {}).get("gitVersion", ""))

    def cluster_uid(self) -> str:
        """The UID of the namespace kube-system: it differs between any two clusters, even of one name."""
        found = self.get("/api/v1/namespaces/kube-system")
        return str(found["metadata"]["uid"]) if found else ""

    def kinds(self, unserved: list[str] | None = None) -> Iterator[tuple[str, Json]]:
        """Every served resource as (path of its group version, resource).

        A group that fails is an Unknown; with `unserved`, its group version is named there and the others go on.
        """
        core = self.get("/api/v1") or {}
        yield from (("/api/v1", r) for r in core.get("resources", []) if "/" not in r["name"])
        for group in (self.get("/apis") or {}).get("groups", []):
            version = group["preferredVersion"]["groupVersion"]
            try:
                served = self.get(f"/apis/{version}") or {}
            except Unknown as unknown:
                if unserved is None or unknown.code != "SFM-K8S-001":
                    raise
                unserved.append(version)
                continue
            yield from ((f"/apis/{version}", r) for r in served.get("resources", []) if "/" not in r["name"])


class Writer(Reader):
    """Reads and writes of one cluster; made only after a plan has been agreed to."""

    guarded = False

    def apply(self, path: str, body: Json) -> Json:
        """Server-side apply of one object at its own path."""
        query = {"fieldManager": MANAGER, "force": "true"}
        found = self._send("PATCH", path, query, json.dumps(body), "application/apply-patch+yaml")
        return dict(found or {})

    def create(self, path: str, body: Json, **query: Any) -> Json:
        """POST one object to its collection."""
        return dict(self._send("POST", path, query, body) or {})

    def merge(self, path: str, body: Json) -> Json | None:
        """Merge-patch one object; None when it is gone."""
        found = self._send("PATCH", path, {"fieldManager": MANAGER}, body, "application/merge-patch+json")
        return found if isinstance(found, dict) else None

    def put(self, path: str, body: Json) -> Json | None:
        """Replace one object or subresource; None when it is gone."""
        found = self._send("PUT", path, None, body)
        return found if isinstance(found, dict) else None

    def delete(self, path: str, **query: Any) -> bool:
        """Delete one object; False when it was not there."""
        return self._send("DELETE", path, query) is not None


def worded(data: Any) -> str:
    """An answer's bytes as text."""
    return data.decode(errors="replace") if isinstance(data, bytes) else str(data)


def api_trouble(method: str, path: str, status: int | None, body: str) -> Trouble:
    """An answer of the API server that is no success, as trouble."""
    try:
        message = str(json.loads(body).get("message", body))
    except (ValueError, AttributeError):
        message = body
    if status in (401, 403):
        return Unknown("SFM-K8S-003", f"the API server refuses {method} {path}", why=message[:500])
    if status is not None and (status == 429 or status >= 500):
        return Unknown("SFM-K8S-001", f"the API server answers {method} {path} with {status}", why=message[:500])
    return Trouble("SFM-K8S-004", f"the API server does not accept {method} {path} ({status})", why=message[:500])


def short_reason(error: BaseException) -> str:
    """The innermost reason of a connection error, without addresses of Python objects."""
    seen: BaseException = error
    while isinstance(inner := getattr(seen, "reason", None), BaseException):
        seen = inner
    text = str(seen)
    return text.rsplit(": ", 1)[-1] if " object at 0x" in text else text
