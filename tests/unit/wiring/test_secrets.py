"""Secret values are made once, kept, and never shown."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from playbook.trouble import Unknown
from playbook.wiring.application import application
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.reach import from_file
from playbook.wiring.secrets import KEYS, PASSWORDS, Sealed, completed, dsn

APP = application("shop", "dev")


def test_everything_that_is_missing_is_made_and_differs(dev):
    whole = completed(APP, dev, Sealed({}), Sealed({}))
    assert whole.lacking() == [] and set(KEYS) == set(whole.values)
    made = [whole.get(key) for key in PASSWORDS]
    assert len(set(made)) == len(made) and min(map(len, made)) >= 40
    again = completed(APP, dev, Sealed({}), Sealed({}))
    assert not set(made) & {again.get(key) for key in PASSWORDS}


def test_what_vault_has_is_kept_and_what_only_the_cluster_has_is_brought_back(dev):
    in_vault = Sealed({"POSTGRES_PASSWORD": "from vault", "OWN_KEY": "the application's own"})
    in_cluster = Sealed({"POSTGRES_PASSWORD": "older", "REDIS_PASSWORD": "from the cluster"})
    whole = completed(APP, dev, in_vault, in_cluster)
    assert whole.get("POSTGRES_PASSWORD") == "from vault"
    assert whole.get("REDIS_PASSWORD") == "from the cluster"
    assert whole.get("OWN_KEY") == "the application's own"
    assert completed(APP, dev, whole, Sealed({})).differing(whole) == []


def test_the_connection_string_survives_any_password(dev, staging):
    whole = completed(APP, dev, Sealed({"POSTGRES_PASSWORD": "p@ss/w:rd?#%"}), Sealed({}))
    parts = urlsplit(whole.get("POSTGRES_DSN"))
    assert (parts.username, unquote(parts.password), parts.path) == ("shop", "p@ss/w:rd?#%", "/shop")
    assert parts.hostname.startswith("sharedinfra-postgres-pgpool.")
    assert "sslmode=verify-full" in completed(APP, staging, whole, Sealed({})).get("POSTGRES_DSN")


@pytest.mark.parametrize("infra", ["dev", "staging"])
@pytest.mark.parametrize(
    ("names", "query"),
    [({"POSTGRES_SSLMODE": "verify-full", "POSTGRES_CA": "PEM"},
      {"sslmode": ["verify-full"], "sslrootcert": ["/etc/soma-infra/postgres.crt"]}),
     ({"POSTGRES_SSLMODE": "verify-full"}, {"sslmode": ["verify-full"], "sslrootcert": ["system"]}),
     ({"POSTGRES_SSLMODE": "require", "POSTGRES_CA": "PEM"}, {"sslmode": ["require"]})],
)  # fmt: skip
def test_a_database_that_is_run_elsewhere_is_reached_as_it_asks_whatever_ours_do(infra, names, query, request):
    ours = request.getfixturevalue(infra)
    at = Endpoints({**ours.values, "POSTGRES_HOST": "pg.example", **names}, "soma-infra", ours.ca)
    assert parse_qs(urlsplit(dsn(APP, at, "x")).query) == query


def test_a_value_is_never_shown():
    sealed = Sealed({"REDIS_PASSWORD": "hunter2-hunter2"})
    for shown in (repr(sealed), str(sealed), f"{sealed}", f"{[sealed]}"):
        assert "hunter2" not in shown and "REDIS_PASSWORD: 15 bytes" in shown


def test_a_file_of_a_secret_gives_its_first_line(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("hvs.token \nand a note\n")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(tmp_path / "token"))
    assert from_file("VAULT_TOKEN_FILE", "SFM-VLT-011") == "hvs.token"
    monkeypatch.delenv("VAULT_TOKEN_FILE")
    assert from_file("VAULT_TOKEN_FILE", "SFM-VLT-011") == ""


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe"])
def test_a_file_of_a_secret_that_has_none_is_named(tmp_path, monkeypatch, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(path))
    with pytest.raises(Unknown) as caught:
        from_file("VAULT_TOKEN_FILE", "SFM-VLT-011")
    assert (caught.value.code, str(path) in caught.value.what) == ("SFM-VLT-011", True)
