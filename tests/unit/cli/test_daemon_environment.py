"""What `sfmctl daemon start` hands to the daemon: what was asked for, and nothing in its place."""

import json
from pathlib import Path

import pytest

from sfmctl.commands.daemon import _environment


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of our own, without settings, and an embedder that is installed."""
    import os

    for name in [n for n in os.environ if n.startswith("SOMA_")]:
        monkeypatch.delenv(name)
    (tmp_path / "wordllama").mkdir()
    (tmp_path / "wordllama" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def test_the_semantic_embedder_is_switched_on_where_nobody_chose(tmp_path: Path) -> None:
    assert json.loads(_environment()["SOMA_EMBEDDERS"]) == ["hash-v1", "wordllama"]


def test_embedders_of_the_configuration_file_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sfmd.toml"
    monkeypatch.setenv("SOMA_CONFIG_FILE", "sfmd.toml")
    file.write_text('embedders = ["hash-v1"]\n')
    assert "SOMA_EMBEDDERS" not in _environment()
    file.write_text("[grpc]\nreflection = true\n")
    assert "SOMA_EMBEDDERS" in _environment()


def test_files_are_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_CONFIG_FILE", "sfmd.toml")
    monkeypatch.setenv("SOMA_TLS__CERT_FILE", "tls/server.pem")
    monkeypatch.setenv("SOMA_TLS__KEY_FILE", "")
    env = _environment()
    assert env["SOMA_CONFIG_FILE"] == str(tmp_path / "sfmd.toml")
    assert env["SOMA_TLS__CERT_FILE"] == str(tmp_path / "tls" / "server.pem")
    assert env["SOMA_TLS__KEY_FILE"] == ""
