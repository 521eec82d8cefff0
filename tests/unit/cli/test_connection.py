"""Where a connection's values come from: flags before environment before profile before defaults."""

import stat
from pathlib import Path

import pytest

from sfmctl import connection
from sfmctl.fault import Fault


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def written(env: dict[str, str], **values: str) -> Path:
    path = connection.profiles_file(env)
    connection.write_profile(path, "here", connection.Profile(**values))
    return path


def test_nothing_said_gives_the_default_address(env: dict[str, str]) -> None:
    found = connection.resolve({}, env)
    assert (found.address, found.sources["address"]) == ("127.0.0.1:50053", "default")
    assert found.token_file == "" and found.timeout_s == 30.0


def test_flag_beats_environment_beats_profile(env: dict[str, str]) -> None:
    written(env, address="p:1", ca="/p/ca", token_file="/p/token", namespace="pn")
    env |= {"SFM_ADDRESS": "e:1", "SFM_CA_FILE": "/e/ca"}
    found = connection.resolve({"address": "f:1"}, env)
    assert (found.address, found.ca, found.token_file, found.namespace) == ("f:1", "/e/ca", "/p/token", "pn")
    assert dict(found.sources) == {
        "address": "flag", "ca": "environment", "token_file": "profile here", "namespace": "profile here",
    }  # fmt: skip


def test_a_token_in_the_environment_beats_the_profiles_file_but_not_a_flag(env: dict[str, str]) -> None:
    written(env, token_file="/p/token")
    env["SFM_TOKEN"] = "secret"
    assert (connection.resolve({}, env).token, connection.resolve({}, env).token_file) == ("secret", "")
    found = connection.resolve({"token_file": "/f"}, env)
    assert (found.token, found.token_file) == ("", "/f")
    assert "secret" not in repr(connection.resolve({}, env))


def test_a_complete_environment_needs_no_profile_file(env: dict[str, str]) -> None:
    path = written(env, address="p:1")
    path.chmod(0o644)
    env |= {"SFM_ADDRESS": "e:1", "SFM_CA_FILE": "/e/ca", "SFM_TOKEN_FILE": "/e/token"}
    assert connection.resolve({}, env).address == "e:1"


def test_the_profile_file_is_private_and_a_wider_one_is_refused(env: dict[str, str]) -> None:
    path = written(env, address="p:1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(Fault, match="may be read by others") as refused:
        connection.resolve({}, env)
    assert refused.value.code == "SFM-CLI-004" and refused.value.next_step == f"chmod 600 {path}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "profiles: []",
        "profiles: {a: 3}",
        "profiles: {a: {adress: x}}",
        "profiles: {a: {address: 3}}",
        "{",
    ],
)
def test_a_file_that_is_no_profile_file_is_said_so(env: dict[str, str], text: str) -> None:
    path = written(env, address="p:1")
    path.write_text(text)
    with pytest.raises(Fault) as refused:
        connection.resolve({}, env)
    assert refused.value.code == "SFM-CLI-004"


def test_an_unknown_profile_is_an_error_not_a_default(env: dict[str, str]) -> None:
    written(env, address="p:1")
    with pytest.raises(Fault, match="no profile 'there'"):
        connection.resolve({}, env, profile="there")


def test_writing_one_profile_keeps_the_others(env: dict[str, str]) -> None:
    path = written(env, address="p:1")
    connection.write_profile(path, "b", connection.Profile(address="b:2"), make_current=False)
    current, profiles = connection.read_profiles(path)
    assert current == "here" and {n: p.address for n, p in profiles.items()} == {"here": "p:1", "b": "b:2"}


@pytest.mark.parametrize("text", ["x", "-1", "0", "inf", "nan"])
def test_a_timeout_must_be_positive_seconds(env: dict[str, str], text: str) -> None:
    with pytest.raises(Fault) as refused:
        connection.resolve({}, env | {"SFM_TIMEOUT": text})
    assert refused.value.code == "SFM-CLI-002"
