"""TLS material: made once, private, renewed in time, and never silently replaced under its clients."""

import datetime as dt
import stat

import pytest
from cryptography import x509

from sfmd.errors import E, Refused
from sfmd.secrets import CA_LIFETIME, LEAF_LIFETIME, RENEW_BEFORE, Tls, TlsPaths, ensure_development, local_names

START_S = 1_790_000_000.0


class Time:
    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


def leaf(tls: Tls) -> x509.Certificate:
    return x509.load_pem_x509_certificate(tls.current().certificate)


def test_first_start_makes_a_ca_and_a_leaf_for_every_local_name(tmp_path):
    tls = Tls.development(tmp_path / "tls", Time(), names=("memory.example",))
    names = leaf(tls).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "memory.example"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "::1"} <= {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    leaf(tls).verify_directly_issued_by(x509.load_pem_x509_certificate(tls.paths.ca.read_bytes()))


def test_keys_are_private(tmp_path):
    Tls.development(tmp_path / "tls", Time())
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "tls").iterdir()}
    assert modes == dict.fromkeys(("ca.pem", "ca.key", "server.pem", "server.key"), 0o600)
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_a_second_start_changes_nothing(tmp_path):
    first = Tls.development(tmp_path / "tls", Time()).current()
    assert Tls.development(tmp_path / "tls", Time()).current() == first


def test_a_running_daemon_renews_its_leaf_before_it_ends_and_keeps_its_ca(tmp_path):
    time_s = Time()
    tls = Tls.development(tmp_path / "tls", time_s)
    ca, old = tls.paths.ca.read_bytes(), leaf(tls)
    time_s.now_s += (LEAF_LIFETIME - RENEW_BEFORE).total_seconds() - 60
    assert leaf(tls) == old
    time_s.now_s += 120
    new = leaf(tls)
    assert new.serial_number != old.serial_number
    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert tls.paths.ca.read_bytes() == ca


def test_a_new_name_brings_a_new_leaf_under_the_same_ca(tmp_path):
    ca = Tls.development(tmp_path / "tls", Time()).paths.ca.read_bytes()
    tls = Tls.development(tmp_path / "tls", Time(), names=("other.example",))
    assert "other.example" in leaf(tls).extensions.get_extension_for_class(
        x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)  # fmt: skip
    assert tls.paths.ca.read_bytes() == ca


def test_a_ca_without_its_key_is_refused_instead_of_replaced(tmp_path):
    Tls.development(tmp_path / "tls", Time())
    (tmp_path / "tls" / "ca.key").unlink()
    with pytest.raises(Refused, match=r"ca\.key is missing") as raised:
        Tls.development(tmp_path / "tls", Time())
    assert raised.value.code is E.CONFIG


@pytest.mark.parametrize("gone", [("ca.pem", "server.pem", "server.key"), ("ca.pem",)], ids=["first start", "later"])
def test_a_ca_of_which_only_the_key_is_there_is_made_of_that_key(tmp_path, gone):
    """As a first start leaves it that is killed between the two files; and nobody who trusts the CA is cut off."""
    before = Tls.development(tmp_path / "tls", Time())
    trusted, key = before.paths.ca.read_bytes(), (tmp_path / "tls" / "ca.key").read_bytes()
    for name in gone:
        (tmp_path / "tls" / name).unlink()
    again = Tls.development(tmp_path / "tls", Time(), names=("new.example",))
    assert (tmp_path / "tls" / "ca.key").read_bytes() == key
    for ca in (trusted, again.paths.ca.read_bytes()):
        leaf(again).verify_directly_issued_by(x509.load_pem_x509_certificate(ca))


def test_a_lone_key_that_is_none_is_refused(tmp_path):
    (tmp_path / "ca.key").write_text("no key")
    with pytest.raises(Refused, match="not a key that sfmd made"):
        Tls.development(tmp_path, Time())


def test_a_ca_at_its_end_is_refused_in_words(tmp_path):
    now = dt.datetime.fromtimestamp(START_S, dt.UTC)
    ensure_development(tmp_path / "tls", local_names(), now)
    with pytest.raises(Refused, match="ends soon"):
        ensure_development(tmp_path / "tls", local_names(), now + CA_LIFETIME)


def test_a_damaged_leaf_is_made_anew(tmp_path):
    tls = Tls.development(tmp_path / "tls", Time())
    tls.paths.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    assert leaf(Tls.development(tmp_path / "tls", Time())).subject is not None


def test_own_certificates_are_checked_against_their_key(tmp_path):
    a = Tls.development(tmp_path / "a", Time()).paths
    b = Tls.development(tmp_path / "b", Time()).paths
    with pytest.raises(Refused, match="is not the key of"):
        Tls(TlsPaths(a.ca, a.certificate, b.key), Time())
    with pytest.raises(Refused, match="cannot be used"):
        Tls(TlsPaths(a.ca, tmp_path / "none.pem", a.key), Time())
    late = Time()
    late.now_s += LEAF_LIFETIME.total_seconds() + 1
    with pytest.raises(Refused, match="expired"):
        Tls(TlsPaths(a.ca, a.certificate, a.key), late)


def test_files_that_break_later_leave_the_last_good_material_and_a_problem(tmp_path):
    a = Tls.development(tmp_path / "a", Time()).paths
    time_s = Time()
    tls = Tls(TlsPaths(a.ca, a.certificate, a.key), time_s)
    good, key = tls.current(), a.key.read_bytes()
    a.key.write_bytes(b"broken")
    time_s.now_s += 60
    assert tls.current() == good
    assert "cannot be used" in tls.problem
    a.key.write_bytes(key)
    time_s.now_s += 60
    assert tls.current() == good
    assert tls.problem == ""
