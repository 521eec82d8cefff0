"""Settings: who wins, what is refused in which words, and that every one of them is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfmd.config import describe, load, unknown_variables
from sfmd.errors import E, Refused


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests does not count."""
    import os

    for name in [n for n in os.environ if n.startswith("SOMA_")]:
        monkeypatch.delenv(name)


def test_explicit_over_environment_over_file_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sfmd.toml"
    file.write_text("[grpc]\nport = 1001\nhost = '127.0.0.2'\ndrain_s = 3.0\n")
    monkeypatch.setenv("SOMA_GRPC__PORT", "1002")
    monkeypatch.setenv("SOMA_GRPC__HOST", "127.0.0.3")
    settings = load(file, grpc={"port": 1003, "host": None})
    assert settings.grpc.port == 1003
    assert settings.grpc.host == "127.0.0.3"
    assert settings.grpc.drain_s == 3.0
    assert settings.http.port == 9595


def test_the_file_may_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sfmd.toml"
    file.write_text("[limits]\nk = 7\n")
    monkeypatch.setenv("SOMA_CONFIG_FILE", str(file))
    assert load().bounds().k == 7


def test_paths_in_the_file_count_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "etc" / "sfmd.toml"
    file.parent.mkdir()
    file.write_text("data_dir = '../data'\n[tls]\ncert_file = 'server.pem'\nkey_file = '/run/key.pem'\n")
    for folder, named in ((Path("/"), file), (tmp_path, Path("etc/sfmd.toml"))):
        monkeypatch.chdir(folder)
        settings = load(named)
        assert settings.data_dir == file.parent / "../data"
        assert settings.tls.cert_file == file.parent / "server.pem"
        assert settings.tls.key_file == Path("/run/key.pem")
    monkeypatch.setenv("SOMA_DATA_DIR", "elsewhere")
    assert load(file).data_dir == Path("elsewhere")


def test_a_directory_with_a_dot_env_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("SOMA_GRPC__PORT=1\n")
    monkeypatch.chdir(tmp_path)
    assert load().grpc.port == 50053


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SOMA_GRPC__PORT", "65536", "SOMA_GRPC__PORT: input should be less than or equal to 65535"),
        ("SOMA_GRPC__PORT", "many", "SOMA_GRPC__PORT: input should be a valid integer"),
        ("SOMA_GRPC__PROT", "1", "SOMA_GRPC__PROT: is no setting"),
        ("SOMA_LOG__LEVEL", "loud", "SOMA_LOG__LEVEL: input should be 'debug', 'info', 'warning' or 'error'"),
        ("SOMA_LIMITS__K", "0", "SOMA_LIMITS__K: input should be greater than or equal to 1"),
        ("SOMA_EMBEDDERS", "hash-v1", "SOMA_EMBEDDERS: input should be JSON, a list such as"),
        ("SOMA_TLS__NAMES", "memory.example", "SOMA_TLS__NAMES: input should be JSON, a list such as"),
    ],
)
def test_a_bad_value_is_refused_by_name(variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Refused) as refused:
        load()
    assert refused.value.code is E.CONFIG
    assert words in refused.value.message


@pytest.mark.parametrize("text", ["[grpc\n", "\xff"])
def test_a_file_that_is_not_toml_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "sfmd.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(Refused, match=str(file)) as refused:
        load(file)
    assert refused.value.code is E.CONFIG


def test_a_file_that_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        load(tmp_path / "none.toml")


def test_an_unknown_key_of_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sfmd.toml"
    file.write_text("[grpc]\nprot = 1\n")
    with pytest.raises(Refused, match="SOMA_GRPC__PROT: is no setting"):
        load(file)


def test_a_misspelt_variable_is_named() -> None:
    env = {"SOMA_GRPC__PORT": "1", "SOMA_DATADIR": "/x", "HOME": "/", "SOMA_CONFIG_FILE": "x"}
    assert unknown_variables(env) == ["SOMA_DATADIR"]


def test_every_setting_can_be_set_by_its_documented_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, kind, default, _ in describe():
        if kind.startswith(("integer", "number")):
            monkeypatch.setenv(variable, default)
    assert load() == load()
