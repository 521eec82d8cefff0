"""The real command line as a subprocess, against a real daemon process that the whole directory shares."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testing.daemon import DaemonProcess, daemon

SFMCTL = Path(sys.executable).parent / "sfmctl"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def document(self) -> dict[str, Any]:
        """The one document on stdout; fails when there is more or less than one."""
        made = json.loads(self.text)
        assert made["schemaVersion"] == 1
        return made


Cli = Callable[..., Done]


def clean_environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """This environment without anything that configures us, and a home of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOMA_", "SFM_", "XDG_", "NO_COLOR", "COLUMNS"))}
    return env | {"HOME": str(home), **extra}


def run(arguments: list[str], env: Mapping[str, str], given: bytes = b"") -> Done:
    """Run sfmctl to its end. No command may ever show a traceback or leave with 1."""
    done = subprocess.run([str(SFMCTL), *arguments], input=given, capture_output=True, env=dict(env), check=False,
                          timeout=TIMEOUT_S)  # fmt: skip
    err = done.stderr.decode()
    assert "Traceback" not in err and done.returncode != 1, err
    return Done(done.returncode, done.stdout, err)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with daemon(tmp_path_factory.mktemp("served")) as process:
        yield process


@pytest.fixture(scope="session")
def way(served: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment that leads to the shared daemon."""
    profile = served.profile()
    return clean_environment(
        tmp_path_factory.mktemp("home"),
        {"SFM_ADDRESS": profile.address, "SFM_CA_FILE": profile.ca_file, "SFM_TOKEN_FILE": profile.token_file},
    )


@pytest.fixture
def cli(way: dict[str, str]) -> Cli:
    """`cli("memory", "list", given=b"", code=0, SFM_X="…")`: run, and hold the exit code to what is expected."""

    def call(*arguments: str, given: bytes = b"", code: int = 0, **variables: str) -> Done:
        done = run(list(arguments), way | variables, given)
        assert done.code == code, f"{arguments}: {done.code}, not {code}\n{done.text}\n{done.err}"
        return done

    return call


@pytest.fixture(scope="session")
def namespace(way: dict[str, str]) -> str:
    """A namespace of three memories that tests may read, not change."""
    name = "read-only"
    lines = [
        {"id": "green", "text": "The staging build is green since Tuesday.", "importance": 3, "kind": "note"},
        {"id": "rule", "text": "Never deploy on a Friday.", "importance": 8, "metadata": {"team": "ops", "n": 3}},
        {"id": "old", "text": "The build was red in spring.", "importance": 3, "event_time_s": 1_700_000_000},
    ]
    given = "\n".join(json.dumps(line) for line in lines).encode()
    assert run(["memory", "namespace", "create", name, "--half-life", "default=30d"], way).code == 0
    assert run(["memory", "store", "-n", name, "--jsonl", "-"], way, given).code == 0
    return name
