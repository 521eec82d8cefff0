"""Where a connection's values come from: flags before environment before profile before defaults."""

from pathlib import Path

import pytest

from sfmctl import connection
from sfmctl.fault import Fault
from sfmd.rpc.profile import Profile, save_profile


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def written(env: dict[str, str], name: str = "default", **values: str) -> Path:
    return save_profile(Profile(**values), name, env)


def test_nothing_said_gives_the_default_address(env: dict[str, str]) -> None:
    found = connection.resolve({}, env)
    assert (found.profile.address, found.sources["address"]) == ("127.0.0.1:50053", "default")
    assert (found.sources["token_file"], found.timeout_s) == ("not set", 30.0)


def test_flag_beats_environment_beats_profile(env: dict[str, str]) -> None:
    written(env, address="p:1", ca_file="/p/ca", token_file="/p/token", namespace="pn")
    env |= {"SFM_ADDRESS": "e:1", "SFM_CA_FILE": "/e/ca"}
    found = connection.resolve({"address": "f:1"}, env)
    profile = found.profile
    assert (profile.address, profile.ca_file, profile.token_file, profile.namespace) == (
        "f:1", "/e/ca", "/p/token", "pn",
    )  # fmt: skip
    assert [found.sources[f] for f in ("address", "ca_file", "token_file", "namespace", "key_file")] == [
        "flag", "SFM_CA_FILE", "profile default", "profile default", "not set",
    ]  # fmt: skip


def test_a_token_flag_beats_the_token_of_the_environment(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("of-the-flag\n")
    monkeypatch.setenv("SFM_TOKEN", "of-the-environment")
    env["SFM_TOKEN"] = "of-the-environment"
    assert connection.resolve({}, env).profile.token() == "of-the-environment"
    assert connection.resolve({}, env).sources["token_file"] == "SFM_TOKEN"
    assert connection.resolve({"token_file": str(tmp_path / "token")}, env).profile.token() == "of-the-flag"


def test_a_profile_that_others_may_write_is_refused(env: dict[str, str]) -> None:
    path = written(env, address="p:1")
    path.chmod(0o620)
    with pytest.raises(Fault, match="others may write") as refused:
        connection.resolve({}, env)
    assert (refused.value.code, refused.value.next_step) == ("SFM-CLI-004", f"chmod 600 {path}")


def test_a_profile_that_others_may_read_is_warned_about_and_used(
    env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    written(env, address="p:1").chmod(0o644)
    assert connection.resolve({}, env).profile.address == "p:1"
    assert "others may read" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[", "adress = 'x'", "address = 3"])
def test_a_file_that_is_no_profile_is_said_so(env: dict[str, str], text: str) -> None:
    written(env, address="p:1").write_text(text)
    with pytest.raises(Fault) as refused:
        connection.resolve({}, env)
    assert refused.value.code == "SFM-CLI-004"


def test_an_unknown_profile_is_an_error_not_a_default(env: dict[str, str]) -> None:
    written(env, address="p:1")
    with pytest.raises(Fault, match="no profile 'there'"):
        connection.resolve({}, env, profile="there")


@pytest.mark.parametrize("text", ["x", "-1", "0", "inf", "nan"])
def test_a_timeout_must_be_positive_seconds(env: dict[str, str], text: str) -> None:
    with pytest.raises(Fault) as refused:
        connection.resolve({}, env | {"SFM_TIMEOUT": text})
    assert refused.value.code == "SFM-CLI-002"
