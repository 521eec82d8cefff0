"""Who calls: bearer tokens, their principals, and what those may do.

Guards two rules: identity comes from the token and never from a field of a request, and everything is denied unless a
token says otherwise. The file holds SHA-256 digests only; a token is 256 random bits, so a plain digest is enough.
It is read anew whenever it changes, so a revocation holds at once; a file that cannot be read lets
nobody in.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sfmd.errors import E, Refused
from sfmd.private_file import write_private
from sfmd.protocols import Clock

VERBS = ("read", "write", "admin", "purge")
"""read: recall and look; write: store and change; admin: make and configure namespaces; purge: erase for good."""

LOOK_EVERY_S = 0.05
"""How old the daemon's view of the file may be: a revocation holds after this at the latest. Looking on every call
would cost a system call that hands the interpreter to another thread."""

_FORM = re.compile(r"sfm_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:/-]{0,127}")
_GLOB = re.compile(r"[-a-z0-9_.*?]{1,63}")
_NO_DIGEST = bytes(32)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller as the token names it. `namespaces` are shell patterns; `*` is all."""

    name: str
    namespaces: tuple[str, ...]
    verbs: frozenset[str]

    def may(self, verb: str) -> bool:
        """Whether the verb is granted at all."""
        return verb in self.verbs

    def reaches(self, namespace: str) -> bool:
        """Whether a namespace is within the grant. The empty name is no namespace, so only `*` reaches it."""
        return any(p == "*" or (namespace and fnmatchcase(namespace, p)) for p in self.namespaces)


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One line of the file. `key` is the token's public part; times are Unix seconds, None is never."""

    key: str
    digest: str
    principal: str
    namespaces: tuple[str, ...]
    verbs: tuple[str, ...]
    created_s: float
    expires_s: float | None = None
    revoked_s: float | None = None


def digest_of(token: str) -> bytes:
    """SHA-256 of a token. Tokens are high-entropy, so no salt and no slow hash are needed."""
    return hashlib.sha256(token.encode()).digest()


def _checked(principal: str, namespaces: Sequence[str], verbs: Sequence[str]) -> None:
    if not _NAME.fullmatch(principal):
        raise Refused(E.INVALID, "a principal is 1 to 128 letters, digits and _.@:/- and begins with a letter or digit")
    if not namespaces or not all(_GLOB.fullmatch(n) for n in namespaces):
        raise Refused(E.INVALID, "namespaces are names or patterns such as notes, team-*, or * for all")
    unknown = sorted(set(verbs) - set(VERBS))
    if unknown or not verbs:
        raise Refused(E.INVALID, f"verbs are {', '.join(VERBS)}; not {', '.join(unknown) or 'none at all'}")


class TokenFile:
    """The file of token digests: create, revoke, list (any process), authenticate (the daemon)."""

    def __init__(self, path: Path, clock: Clock, *, look_every_s: float = LOOK_EVERY_S) -> None:
        self.path = path
        self._look_every_s = look_every_s
        self._look_at_s = 0.0
        self._file = str(path)
        self._clock = clock
        self._stamp: tuple[int, int, int] | None = None
        self._known: dict[str, tuple[bytes, Principal, float | None, float | None]] = {}
        self.problem = ""

    def create(self, principal: str, namespaces: Sequence[str] = ("*",), verbs: Sequence[str] = ("read", "write"), *,
               lifetime_s: float | None = None) -> tuple[str, TokenRecord]:  # fmt: skip
        """Make a token and return it, once; only its digest is kept. Raises Refused(INVALID) on a bad grant."""
        _checked(principal, namespaces, verbs)
        if lifetime_s is not None and not 0 < lifetime_s < 1e10:
            raise Refused(E.INVALID, "a lifetime is a number of seconds above 0")
        now = self._clock()
        key = secrets.token_hex(6)
        token = f"sfm_{key}_{secrets.token_urlsafe(32)}"
        record = TokenRecord(key=key, digest=digest_of(token).hex(), principal=principal, namespaces=tuple(namespaces),
                             verbs=tuple(v for v in VERBS if v in verbs), created_s=now,
                             expires_s=None if lifetime_s is None else now + lifetime_s)  # fmt: skip
        with self._locked():
            self._write([*self._read(), record])
        return token, record

    def revoke(self, key_or_principal: str) -> list[TokenRecord]:
        """Revoke one token by its key, or all of a principal. Raises Refused(INVALID) when nothing valid matches."""
        now = self._clock()
        with self._locked():
            records = self._read()
            hit = [r for r in records if key_or_principal in (r.key, r.principal) and r.revoked_s is None]
            if not hit:
                raise Refused(E.INVALID, f"no valid token has the key or principal {key_or_principal!r}")
            ended = [replace(r, revoked_s=now) if r in hit else r for r in records]
            self._write(ended)
        return [r for r in ended if r.key in {h.key for h in hit}]

    def records(self) -> list[TokenRecord]:
        """Every token, revoked and expired ones too, oldest first. Never a token itself."""
        return self._read()

    def authenticate(self, header: str | None) -> Principal:
        """The principal of an `authorization` header. Raises Refused(NO_TOKEN); the message never repeats the token."""
        if not header:
            raise Refused(E.NO_TOKEN, "the call has no authorization header")
        scheme, _, token = header.partition(" ")
        form = _FORM.fullmatch(token)
        if scheme.lower() != "bearer" or not form:
            raise Refused(E.NO_TOKEN, "the authorization header is not 'Bearer sfm_…'")
        self._reload()
        entry = self._known.get(form[1])
        if entry is None:  # perhaps made a moment ago
            self._reload(now=True)
            entry = self._known.get(form[1])
        same = hmac.compare_digest(entry[0] if entry else _NO_DIGEST, digest_of(token))
        if entry is None or not same:
            raise Refused(E.NO_TOKEN, "the token is not known")
        _, principal, expires_s, revoked_s = entry
        if revoked_s is not None:
            raise Refused(E.NO_TOKEN, "the token was revoked")
        if expires_s is not None and self._clock() >= expires_s:
            raise Refused(E.NO_TOKEN, "the token has expired")
        return principal

    def _reload(self, *, now: bool = False) -> None:
        """Read the file again when it is another one. What cannot be read, or others may write, lets nobody in."""
        now_s = time.monotonic()
        if now_s < self._look_at_s and not now:
            return
        self._look_at_s = now_s + self._look_every_s
        try:
            at = os.stat(self._file)  # noqa: PTH116 - runs between calls
            stamp = (at.st_mtime_ns, at.st_ino, at.st_size)
            if stamp == self._stamp:
                return
            self._known = {r.key: _entry(r) for r in self._read()}
            self.problem = ""
            self._stamp = stamp
        except FileNotFoundError:
            self._closed("there is no token file")
        except (OSError, Refused) as error:
            self._closed(str(error))

    def _closed(self, why: str) -> None:
        self._known, self._stamp, self.problem = {}, None, why

    def _read(self) -> list[TokenRecord]:
        """Parse the file. Raises Refused(CONFIG) when it is damaged or writable by others."""
        try:
            with self.path.open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o022:
                    raise Refused(E.CONFIG, f"others may write {self.path}: chmod 600 {self.path}")
                document = json.loads(file.read() or b"{}")
            return [_record(fields) for fields in document.get("tokens", [])]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Refused(E.CONFIG, f"{self.path} is no token file: {type(error).__name__}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, over processes."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, records: Sequence[TokenRecord]) -> None:
        body = json.dumps({"version": 1, "tokens": [asdict(r) for r in records]}, indent=1).encode()
        write_private(self.path, body)


def _record(fields: dict[str, Any]) -> TokenRecord:
    """One token of the file. Raises ValueError, TypeError or KeyError for anything that this class did not write."""
    fields = {**fields, "namespaces": tuple(fields["namespaces"]), "verbs": tuple(fields["verbs"])}
    record = TokenRecord(**fields)
    words = (record.key, record.digest, record.principal, *record.namespaces, *record.verbs)
    if not all(isinstance(word, str) for word in words) or len(bytes.fromhex(record.digest)) != len(_NO_DIGEST):
        raise ValueError("a word or a digest is none")
    times = (record.created_s, *(at for at in (record.expires_s, record.revoked_s) if at is not None))
    if not all(math.isfinite(at) for at in times):
        raise ValueError("a time is no number")
    return record


def _entry(record: TokenRecord) -> tuple[bytes, Principal, float | None, float | None]:
    principal = Principal(record.principal, record.namespaces, frozenset(record.verbs))
    return bytes.fromhex(record.digest), principal, record.expires_s, record.revoked_s
