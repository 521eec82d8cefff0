"""TLS material: a development CA and a server certificate made on first start, or the operator's own files.

Guards the rule that there is no plaintext listener. Keys are 0600. The server certificate is renewed in time, also
while the daemon runs: the server asks `current()` on every handshake, so renewal and replaced files need no restart.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sfmd.errors import E, Refused
from sfmd.private_file import write_private
from sfmd.protocols import Clock

CA_LIFETIME = dt.timedelta(days=3650)
LEAF_LIFETIME = dt.timedelta(days=90)
RENEW_BEFORE = dt.timedelta(days=30)
LOOK_EVERY_S = 5.0
"""How often a handshake may look at the files again."""


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """Where the material lies. `client_ca` set: clients must show a certificate of that CA (mutual TLS)."""

    ca: Path
    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """PEM bytes for one handshake."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


def local_names() -> tuple[str, ...]:
    """The names under which a daemon on this machine is reached."""
    host = socket.gethostname()
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", *((host,) if host else ()))))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
                         key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                         decipher_only=False)  # fmt: skip


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: dt.datetime,
             lifetime: dt.timedelta) -> x509.CertificateBuilder:  # fmt: skip
    """What a CA and a leaf have in common. Valid from a little earlier, for clocks that are a little behind."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def make_ca(cert: Path, key: Path, now: dt.datetime) -> None:
    """Write a self-signed CA that may sign leaves only, with the key that is there or a new one.

    A first start that was killed left its key behind. A certificate of that key has the name that the one before had,
    so whoever trusts that one goes on trusting.
    """
    secret = _ca_key(key) if key.exists() else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sfmd development CA {secret_id(secret)}")])
    made = (
        _builder(name, name, secret.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(secret, hashes.SHA256())
    )
    if not key.exists():
        write_private(key, _pem(secret))
    write_private(cert, made.public_bytes(serialization.Encoding.PEM))


def _ca_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The development CA's key. Raises Refused(CONFIG) for what is none."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(E.CONFIG, f"{path} is not a key that sfmd made")
    return key


def secret_id(key: ec.EllipticCurvePrivateKey) -> str:
    """Eight hex digits that tell one CA from another in a message."""
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]


def issue(ca: Path, ca_key: Path, cert: Path, key: Path, *, names: Sequence[str], now: dt.datetime,
          client: bool = False) -> None:  # fmt: skip
    """Write a leaf certificate for `names` and its key; with `client` one that a client shows."""
    issuer = x509.load_pem_x509_certificate(ca.read_bytes())
    issuer_key = _ca_key(ca_key)
    secret = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    made = (
        _builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]),
            issuer.subject,
            secret.public_key(),
            now,
            LEAF_LIFETIME,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_san(n) for n in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    write_private(key, _pem(secret))
    write_private(cert, made.public_bytes(serialization.Encoding.PEM))


def _good(cert: Path, key: Path, ca: Path, names: Sequence[str], now: dt.datetime) -> bool:
    """Whether a leaf exists, belongs to its key and CA, covers the names and is not near its end."""
    try:
        leaf = x509.load_pem_x509_certificate(cert.read_bytes())
        secret = serialization.load_pem_private_key(key.read_bytes(), None)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.read_bytes()))
        held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001 - whatever is wrong with a leaf of ours, the answer is to make a new one
        return False
    return (
        leaf.public_key() == secret.public_key()
        and all(_san(n) in held for n in names)
        and leaf.not_valid_after_utc - now > RENEW_BEFORE
    )


def ensure_development(folder: Path, names: Sequence[str], now: dt.datetime) -> TlsPaths:
    """Make what is missing, expiring or does not cover `names` below `folder`, and return the paths.

    A CA that exists is kept as long as it lasts, since clients trust it; raises Refused(CONFIG) when it has expired or
    its key is gone, because a new one would cut off every client without a word.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    if not ca.exists():
        make_ca(ca, ca_key, now)
    if not ca_key.exists():
        raise Refused(E.CONFIG, f"ca.key is missing in {folder}: restore it, or remove ca.pem too")
    if x509.load_pem_x509_certificate(ca.read_bytes()).not_valid_after_utc <= now + RENEW_BEFORE:
        raise Refused(E.CONFIG, f"the development CA in {folder} ends soon: remove ca.pem and ca.key, hand out the new")
    cert, key = folder / "server.pem", folder / "server.key"
    if not _good(cert, key, ca, names, now):
        issue(ca, ca_key, cert, key, names=names, now=now)
    return TlsPaths(ca=ca, certificate=cert, key=key)


class Tls:
    """Hands the server its present material. Thread-safe: handshakes ask from gRPC's own threads."""

    def __init__(self, paths: TlsPaths, clock: Clock, *, development: Sequence[str] = ()) -> None:
        """`development`: the names of a certificate that we made and renew; empty for the operator's own."""
        self.paths = paths
        self._clock = clock
        self._names = tuple(development)
        self._lock = threading.Lock()
        self._looked_s = clock()
        self.problem = ""
        """Why the files could not be taken at the last look; empty when all is well."""
        self._material = self._load()

    @classmethod
    def development(cls, folder: Path, clock: Clock, names: Sequence[str] = (), client_ca: Path | None = None) -> Tls:
        """The embedded default: material of our own making below `folder`."""
        names = tuple(dict.fromkeys((*local_names(), *names)))
        made = ensure_development(folder, names, _utc(clock()))
        return cls(TlsPaths(made.ca, made.certificate, made.key, client_ca), clock, development=names)

    def current(self) -> TlsMaterial:
        """The material for a handshake now, renewed and read again when that is due."""
        with self._lock:
            now = self._clock()
            if not 0 <= now - self._looked_s < LOOK_EVERY_S:
                self._looked_s = now
                self._renew(now)
            return self._material

    def _renew(self, now: float) -> None:
        """Take what is there now; when it cannot be used, serve on with the last good material and say so."""
        try:
            if self._names:
                ensure_development(self.paths.ca.parent, self._names, _utc(now))
            self._material = self._load()
            self.problem = ""
        except (OSError, Refused) as error:
            self.problem = str(error)

    def _load(self) -> TlsMaterial:
        """Read and check certificate and key. Raises Refused(CONFIG) with the file's name, never its content."""
        p = self.paths
        try:
            cert, key = p.certificate.read_bytes(), p.key.read_bytes()
            client_ca = p.client_ca.read_bytes() if p.client_ca else None
            leaf = x509.load_pem_x509_certificate(cert)
            if serialization.load_pem_private_key(key, None).public_key() != leaf.public_key():
                raise Refused(E.CONFIG, f"{p.key} is not the key of {p.certificate}")
            if client_ca is not None:
                x509.load_pem_x509_certificates(client_ca)
        except (OSError, ValueError, TypeError) as error:
            raise Refused(E.CONFIG, f"TLS material cannot be used: {error}") from error
        if leaf.not_valid_after_utc <= _utc(self._clock()):
            raise Refused(E.CONFIG, f"{p.certificate} has expired")
        return TlsMaterial(cert, key, client_ca)


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
