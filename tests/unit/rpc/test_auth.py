"""Tokens: what is kept, who gets in, and when nobody does."""

import json
import stat
import threading

import pytest

from sfmd.auth import TokenFile, digest_of
from sfmd.errors import E, Refused


class Time:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time_s():
    return Time()


@pytest.fixture
def tokens(tmp_path, time_s):
    return TokenFile(tmp_path / "tokens.json", time_s, look_every_s=0)


def refused(tokens: TokenFile, header: str | None) -> Refused:
    with pytest.raises(Refused) as raised:
        tokens.authenticate(header)
    assert raised.value.code is E.NO_TOKEN
    return raised.value


def test_a_token_names_its_principal_grant_and_verbs(tokens):
    token, record = tokens.create("ana", ("notes", "team-*"), ("write", "read"))
    principal = tokens.authenticate(f"Bearer {token}")
    assert (principal.name, principal.namespaces, principal.verbs) == ("ana", ("notes", "team-*"), {"read", "write"})
    assert [principal.reaches(n) for n in ("notes", "team-a", "team-", "other", "notes2", "")] == [
        True, True, True, False, False, False]  # fmt: skip
    assert principal.may("read")
    assert not principal.may("purge")
    assert record.verbs == ("read", "write")


def test_the_file_keeps_a_digest_only_and_is_private(tokens):
    token, record = tokens.create("ana")
    text = tokens.path.read_text()
    assert token not in text
    assert token.split("_", 2)[2] not in text
    assert digest_of(token).hex() == record.digest
    assert record.digest in text
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer sfm_x_y", "sfm_0_0",
                                    "Bearer sfm_000000000000_" + "A" * 43, "Bearer \u00e9"])  # fmt: skip
def test_what_is_no_known_token_is_refused(tokens, header):
    tokens.create("ana")
    refused(tokens, header)


def test_the_right_key_with_another_secret_is_refused_without_repeating_it(tokens):
    token, record = tokens.create("ana")
    wrong = f"sfm_{record.key}_{'B' * 43}"
    assert wrong not in str(refused(tokens, f"Bearer {wrong}"))
    assert tokens.authenticate(f"bearer {token}").name == "ana"


def test_a_revoked_token_is_refused_at_once(tokens, tmp_path, time_s):
    token, record = tokens.create("ana")
    other, _ = tokens.create("ben")
    assert tokens.authenticate(f"Bearer {token}").name == "ana"
    by_another_process = TokenFile(tmp_path / "tokens.json", time_s)
    assert [r.key for r in by_another_process.revoke(record.key)] == [record.key]
    assert "revoked" in str(refused(tokens, f"Bearer {token}"))
    assert tokens.authenticate(f"Bearer {other}").name == "ben"
    with pytest.raises(Refused):
        by_another_process.revoke(record.key)


def test_all_tokens_of_a_principal_can_be_revoked_at_once(tokens):
    made = [tokens.create("ana")[0] for _ in range(3)]
    assert len(tokens.revoke("ana")) == 3
    for token in made:
        refused(tokens, f"Bearer {token}")
    assert all(r.revoked_s is not None for r in tokens.records())


def test_an_expired_token_is_refused_at_its_second(tokens, time_s):
    token, record = tokens.create("ana", lifetime_s=60)
    time_s.now_s = record.expires_s - 0.001
    assert tokens.authenticate(f"Bearer {token}").name == "ana"
    time_s.now_s = record.expires_s
    assert "expired" in str(refused(tokens, f"Bearer {token}"))


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"tokens": [{"key": 1}]}', b'{"tokens": 3}', b"\xff\xfe"])
def test_a_damaged_file_lets_nobody_in_and_says_so(tokens, damage):
    token, _ = tokens.create("ana")
    assert tokens.authenticate(f"Bearer {token}")
    tokens.path.write_bytes(damage)
    refused(tokens, f"Bearer {token}")
    assert str(tokens.path) in tokens.problem


@pytest.mark.parametrize("field, value", [
    ("digest", "zz"), ("digest", "00"), ("digest", None), ("expires_s", "tomorrow"), ("expires_s", float("nan")),
    ("revoked_s", []), ("created_s", None), ("principal", 3), ("namespaces", [1]), ("verbs", None), ("colour", "red"),
])  # fmt: skip
def test_one_damaged_record_lets_nobody_in_whatever_else_was_changed(tokens, field, value):
    token, _ = tokens.create("ana")
    tokens.create("bob")
    assert tokens.authenticate(f"Bearer {token}").name == "ana"
    document = json.loads(tokens.path.read_text())
    document["tokens"][0]["revoked_s"] = 1.0
    document["tokens"][1][field] = value
    tokens.path.write_text(json.dumps(document))
    for _ in range(3):
        refused(tokens, f"Bearer {token}")
        assert str(tokens.path) in tokens.problem
    document["tokens"].pop()
    document["tokens"][0]["revoked_s"] = None
    tokens.path.write_text(json.dumps(document))
    assert tokens.authenticate(f"Bearer {token}").name == "ana"


def test_a_file_that_others_may_write_lets_nobody_in(tokens):
    token, _ = tokens.create("ana")
    tokens.path.chmod(0o666)
    refused(tokens, f"Bearer {token}")
    assert "chmod 600" in tokens.problem
    tokens.path.chmod(0o600)
    assert tokens.authenticate(f"Bearer {token}").name == "ana"


def test_a_removed_file_lets_nobody_in(tokens):
    token, _ = tokens.create("ana")
    tokens.authenticate(f"Bearer {token}")
    tokens.path.unlink()
    refused(tokens, f"Bearer {token}")


@pytest.mark.parametrize(("principal", "namespaces", "verbs"), [
    ("", ("*",), ("read",)), ("a b", ("*",), ("read",)), ("ana", (), ("read",)), ("ana", ("A",), ("read",)),
    ("ana", ("*",), ()), ("ana", ("*",), ("root",))])  # fmt: skip
def test_a_bad_grant_is_refused_and_writes_nothing(tokens, principal, namespaces, verbs):
    with pytest.raises(Refused) as raised:
        tokens.create(principal, namespaces, verbs)
    assert raised.value.code is E.INVALID
    assert not tokens.path.exists()


def test_writers_of_several_threads_lose_no_token(tokens, tmp_path, time_s):
    def make(n: int) -> None:
        TokenFile(tmp_path / "tokens.json", time_s).create(f"p{n}")

    threads = [threading.Thread(target=make, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {r.principal for r in tokens.records()} == {f"p{n}" for n in range(12)}
    assert not [p for p in tmp_path.glob("tokens.json.*") if p.suffix != ".lock"]


def test_a_new_token_is_good_at_once_however_seldom_the_file_is_looked_at(tmp_path, time_s):
    tokens = TokenFile(tmp_path / "tokens.json", time_s, look_every_s=3600)
    for _ in range(3):
        token, _record = tokens.create("ana")
        assert tokens.authenticate(f"Bearer {token}").name == "ana"
