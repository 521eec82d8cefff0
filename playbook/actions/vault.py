"""Vault's first hour: initialise, unseal, say how it stands. Needed from staging on, where there is no auto-unseal.

The rule it guards: keys exist in plain text only in the answer to the one who asked, or not at all when a recipient for
age or PGP is given. They are never written to the cluster, the journal, a log or an argument. Whatever could go wrong
with handing them out (the recipient, the file) is tried before Vault is asked to make them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from playbook.kube import Reader
from playbook.target import Target
from playbook.trouble import Trouble, Unknown
from playbook.tunnel import Way, tunnel

PORT = 8200
POLL_S = 1.0
SHARE_BYTES = 4096
"""Room for one encrypted share, more than one that a PGP key of 16384 bits encrypts."""


@dataclass(frozen=True, slots=True)
class Node:
    """How one Vault node stands; `problem` says why that is not known, and then nothing else is."""

    name: str
    initialised: bool
    sealed: bool
    active: bool
    version: str
    progress: str = ""
    unseals_itself: bool = False
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The node as JSON has it."""
        if self.problem:
            return {"name": self.name, "problem": self.problem}
        return {"name": self.name, "initialised": self.initialised, "sealed": self.sealed, "active": self.active,
                "version": self.version, "unsealProgress": self.progress}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keys:
    """What initialising gives, once: shares of the unseal key and the first root token (encrypted when asked for)."""

    shares: tuple[str, ...]
    threshold: int
    root_token: str

    def document(self) -> str:
        """The keys as one JSON text: what is encrypted for an age recipient."""
        return json.dumps({"unseal_keys": self.shares, "threshold": self.threshold, "root_token": self.root_token})


def pods(reader: Reader, target: Target) -> list[dict[str, Any]]:
    """Vault's pods in the order of their numbers."""
    selector = f"app.kubernetes.io/name=vault,app.kubernetes.io/instance={target.release}"
    found = reader.items(f"/api/v1/namespaces/{target.namespace}/pods", labelSelector=selector)
    if not found:
        raise Unknown("SFM-VLT-002", "there is no Vault pod in this cluster")
    return sorted(found, key=lambda pod: pod["metadata"]["name"])


@contextlib.contextmanager
def client(reader: Reader, target: Target, pod: dict[str, Any]) -> Iterator[Any]:
    """An hvac client of one node, through a forwarded port; its certificate is checked where it serves TLS."""
    import hvac

    name = pod["metadata"]["name"]
    tls = any(v["name"] == "tls" for v in pod["spec"].get("volumes", []))
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(tunnel(Way(target.context, target.kubeconfig, target.namespace), name, PORT))
        verify: str | bool = True
        if tls:
            verify = str(stack.enter_context(authority(reader, target)))
        url = f"{'https' if tls else 'http'}://localhost:{port}"
        opened = hvac.Client(url=url, verify=verify, timeout=15)
        stack.callback(opened.adapter.close)
        yield opened


@contextlib.contextmanager
def authority(reader: Reader, target: Target) -> Iterator[Path]:
    """Vault's certificate authority (a public certificate) in a file for as long as the block runs."""
    name = f"{target.release}-vault-tls"
    found = reader.get(f"/api/v1/namespaces/{target.namespace}/secrets/{name}")
    if not found or "ca.crt" not in found.get("data", {}):
        raise Unknown("SFM-VLT-002", f"the Secret {name} has no ca.crt, so Vault's certificate cannot be checked")
    with tempfile.NamedTemporaryFile(suffix=".crt") as out:
        out.write(base64.b64decode(found["data"]["ca.crt"]))
        out.flush()
        yield Path(out.name)


def asked(what: str, call: Callable[[], Any]) -> Any:
    """One call to Vault; whatever stands in the way as a code of the book."""
    import hvac.exceptions
    import requests

    try:
        return call()
    except requests.exceptions.RequestException as error:
        raise Unknown("SFM-VLT-002", f"Vault does not answer ({what})", why=str(error).splitlines()[0]) from error
    except hvac.exceptions.VaultError as error:
        raise Trouble(
            "SFM-VLT-004", f"Vault refuses it ({what})", why="; ".join(map(str, error.errors or [error]))
        ) from error


def node(reader: Reader, target: Target, pod: dict[str, Any]) -> Node:
    """How one node stands; one that does not answer has its problem, and stands in no other's way."""
    try:
        return answered(reader, target, pod)
    except Unknown as unknown:
        problem = unknown.what + (f": {unknown.why}" if unknown.why else "")
        return Node(pod["metadata"]["name"], False, False, False, "", problem=problem)


def answered(reader: Reader, target: Target, pod: dict[str, Any]) -> Node:
    """How one node says that it stands; Unknown when it does not answer."""
    name = pod["metadata"]["name"]
    with client(reader, target, pod) as vault:
        seal = asked("seal status", vault.sys.read_seal_status)
        active = False
        if seal["initialized"] and not seal["sealed"]:
            active = bool(asked("leader", vault.sys.read_leader_status).get("is_self", True))
    progress = f"{seal.get('progress', 0)}/{seal.get('t', 0)}" if seal["sealed"] and seal["initialized"] else ""
    by_itself = seal.get("type", "shamir") != "shamir"
    return Node(name, seal["initialized"], seal["sealed"], active, str(seal.get("version", "")), progress, by_itself)


def nodes(reader: Reader, target: Target) -> list[Node]:
    """How every node stands."""
    return [node(reader, target, pod) for pod in pods(reader, target)]


def waits_for_a_person(found: Sequence[Node]) -> list[str]:
    """The nodes that only a person can open: nobody initialised them, or they are sealed and have no auto-unseal.

    None as long as a node does not answer: it may start, and have been initialised.
    """
    if any(one.problem for one in found):
        return []
    if not any(one.initialised for one in found):
        return [f"{one.name} is not initialised" for one in found]
    return [f"{one.name} is sealed" for one in found if one.initialised and one.sealed and not one.unseals_itself]


def age_encryptor(recipient: str) -> Callable[[str], bytes]:
    """A function that encrypts text for an age recipient, armoured; tried at once, before there is anything to lose."""
    import pyrage

    try:
        key = pyrage.x25519.Recipient.from_str(recipient) if not recipient.startswith("ssh-") else (
            pyrage.ssh.Recipient.from_str(recipient)
        )  # fmt: skip
        pyrage.encrypt(b"a try", [key], armored=True)
    except Exception as error:
        raise Trouble("SFM-VLT-005", "this is no recipient that age can encrypt for", why=str(error)) from error
    return lambda text: bytes(pyrage.encrypt(text.encode(), [key], armored=True))


def pgp_key(path: Path) -> str:
    """A PGP public key as Vault takes it: base64 of its binary form, from an armoured file or a binary one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Trouble("SFM-VLT-005", f"the PGP key {path} cannot be read", why=error.strerror or "") from error
    if b"-----BEGIN PGP " not in data:
        return base64.b64encode(data).decode()
    text = "\n".join(line.strip() for line in data.decode(errors="replace").splitlines())
    edge = "-----{} PGP PUBLIC KEY BLOCK-----"
    block = re.search(f"^{edge.format('BEGIN')}$(.*?)^{edge.format('END')}$", text, re.MULTILINE | re.DOTALL)
    if block is None:
        raise Trouble("SFM-VLT-005", f"{path} holds no whole PGP public key")
    # beside the key stand headers ("Comment: …") and its checksum ("=abcd")
    key = "".join(line for line in block[1].split("\n") if ":" not in line and not line.startswith("="))
    try:
        base64.b64decode(key, validate=True)
    except ValueError as error:
        raise Trouble("SFM-VLT-005", f"the PGP key {path} is damaged", why=str(error)) from error
    return key


@contextlib.contextmanager
def private_file(path: Path, room_bytes: int) -> Iterator[Callable[[bytes], None]]:
    """A new file that only this user reads, made before it is needed, with room for what will be written.

    It is gone again when nothing was to be written to it. After a write that failed it stays as it is, and the trouble
    is SFM-CLI-029.
    """
    needed = False

    def put(data: bytes) -> None:
        try:
            out.seek(0)
            left = data
            while left:
                left = left[out.write(left) :]
            os.fsync(fd)
            out.truncate(len(data))  # only now: until then the room stays taken
            os.fsync(fd)
        except OSError as error:
            why = error.strerror or str(error)
            raise Trouble("SFM-CLI-029", f"{path} cannot be written", why=why) from error

    def write(data: bytes) -> None:
        nonlocal needed
        needed = True
        put(data)

    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Trouble("SFM-CLI-029", f"{path} cannot be written", why=error.strerror or "") from error
    with os.fdopen(fd, "wb", buffering=0) as out:
        try:
            put(bytes(room_bytes))
            yield write
        finally:
            if not needed:
                path.unlink(missing_ok=True)


def initialise(reader: Reader, target: Target, *, shares: int, threshold: int, pgp: Sequence[str] = ()) -> Keys:
    """Initialise the first node; with `pgp` Vault itself encrypts every share and the root token."""
    first = pods(reader, target)[0]
    with client(reader, target, first) as vault:
        if asked("seal status", vault.sys.is_initialized):
            raise Trouble("SFM-VLT-003", "Vault is initialised already")
        keys = [pgp[n % len(pgp)] for n in range(shares)] if pgp else None
        try:
            made = vault.sys.initialize(
                secret_shares=shares,
                secret_threshold=threshold,
                pgp_keys=keys,
                root_token_pgp_key=pgp[0] if pgp else None,
            )
        except Exception as error:
            if "pgp" in str(error).lower() or "openpgp" in str(error).lower():
                raise Trouble("SFM-VLT-005", "Vault cannot encrypt for this PGP key", why=str(error)) from error
            raise Trouble("SFM-VLT-002", "Vault could not be initialised", why=str(error)) from error
    return Keys(tuple(made["keys_base64"]), threshold, made["root_token"])


def unseal(
    reader: Reader, target: Target, keys: Sequence[str], *, wait_s: float, tell: Callable[[str], None]
) -> list[Node]:
    """Give the keys to every sealed node, the first one first, since the others join it; how they then stand.

    A node that does not take them, or is away, stands in no other's way; the first one's trouble is raised at the end.
    """
    deadline = time.monotonic() + wait_s
    failed: list[Trouble] = []
    for pod in pods(reader, target):
        name = pod["metadata"]["name"]
        try:
            with client(reader, target, pod) as vault:
                unseal_one(vault, name, keys, deadline, tell)
            tell(f"{name} is unsealed")
        except Trouble as trouble:
            tell(f"{name}: {trouble.what}")
            failed.append(type(trouble)(trouble.code, f"{name}: {trouble.what}", why=trouble.why))
    if failed:
        first, others = failed[0], [one.what for one in failed[1:]]
        raise type(first)(first.code, first.what, why="\n".join([*filter(None, [first.why]), *others]))
    return nodes(reader, target)


def unseal_one(vault: Any, name: str, keys: Sequence[str], deadline: float, tell: Callable[[str], None]) -> None:
    """Wait until one node has joined, give it the keys if it is sealed, and wait until it is not."""
    while not asked("seal status", vault.sys.is_initialized):
        if time.monotonic() > deadline:
            raise Trouble("SFM-VLT-001", "it is not initialised, and has not joined the first node")
        tell(f"{name} has not joined yet")
        time.sleep(POLL_S)
    if not asked("seal status", vault.sys.is_sealed):
        return
    for key in keys:
        if not asked("unseal", partial(vault.sys.submit_unseal_key, key))["sealed"]:
            break
    while asked("seal status", vault.sys.is_sealed):
        if time.monotonic() > deadline:
            raise Trouble("SFM-VLT-004", f"it is still sealed after {len(keys)} keys")
        time.sleep(POLL_S)
