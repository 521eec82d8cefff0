"""How the command line behaves in a shell: narrow terminals, colours, completion, quick help, the README's blocks."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.integration.cli.conftest import SFMCTL, Cli, clean_environment, run

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("grpc", "numpy", "kubernetes", "yaml", "google.protobuf", "sfmd", "hvac", "aiohttp", "sqlalchemy",
         "rich.progress", "rich.live")  # fmt: skip


def on_a_terminal(arguments: list[str], env: dict[str, str], columns: int) -> str:
    """What a terminal of that width receives on stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen([str(SFMCTL), *arguments], env=env | {"TERM": "xterm-256color"}, stdin=theirs, stdout=theirs,
                          stderr=theirs) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not block:
                break
            seen += block
        os.close(ours)
        assert process.wait(120) in (0, 2)
    return seen.decode()


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "").split("\n")


@pytest.mark.parametrize(
    "words", [["recall", "is the build green"], ["explain", "build", "green"], ["get", "green"], ["list"], ["stats"],
              ["namespace", "list"], ["connection"], ["recall", "--help"]], ids=lambda w: w[0],
)  # fmt: skip
def test_everything_fits_eighty_columns(words: list[str], way: dict[str, str], namespace: str) -> None:
    text = on_a_terminal(["memory", *words], way | {"SFM_NAMESPACE": namespace}, 80)
    assert len(text) > 100
    assert [line for line in plain(text) if len(line) > 80] == []


def test_colours_only_on_a_terminal_and_never_with_no_color(cli: Cli, way: dict[str, str], namespace: str) -> None:
    words = ["memory", "recall", "build", "-n", namespace]
    assert "\x1b[1m" in on_a_terminal(words, way, 100)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", on_a_terminal(words, way | {"NO_COLOR": "1"}, 100))
    assert "\x1b" not in cli(*words).text


def test_an_import_shows_its_rate_on_a_terminal_and_only_lines_elsewhere(
    cli: Cli, way: dict[str, str], tmp_path: Path
) -> None:
    cli("memory", "namespace", "create", "bars")
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps({"id": str(n), "text": f"number {n}"}) + "\n" for n in range(300)))
    seen = on_a_terminal(["memory", "import", str(file), "-n", "bars"], way, 80)
    assert "/300" in seen and "/s" in seen and "━" in seen
    assert "\x1b" not in cli("memory", "import", str(file), "-n", "bars").err


def test_help_loads_nothing_heavy_beyond_typers_own() -> None:
    code = (
        "import sys, json; from sfmctl.app import run; run(['--help']); sys.stderr.write(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stderr)
    assert [m for m in loaded if m.startswith(HEAVY)] == []


def complete(way: dict[str, str], *words: str) -> list[str]:
    """What bash would offer for the last word."""
    env = way | {"_SFMCTL_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([str(SFMCTL)], env=env, capture_output=True, text=True, check=False, timeout=120)
    return done.stdout.split()


def test_completion_of_commands_choices_and_namespaces(way: dict[str, str], namespace: str) -> None:
    assert "recall" in complete(way, "sfmctl", "memory", "re")
    assert complete(way, "sfmctl", "memory", "list", "--output", "s") == ["short"]
    assert namespace in complete(way, "sfmctl", "memory", "recall", "x", "-n", "read")
    gone = way | {"SFM_ADDRESS": "127.0.0.1:1"}
    assert complete(gone, "sfmctl", "memory", "recall", "x", "-n", "read") == []


def test_show_completion_prints_a_script(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    done = subprocess.run([str(SFMCTL), "--show-completion", "bash"], env=env, capture_output=True, text=True,
                          check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0 and "_SFMCTL_COMPLETE" in done.stdout


def test_help_and_nothing_at_all(tmp_path: Path) -> None:
    env = clean_environment(tmp_path, {})
    assert run(["--version"], env).text.startswith("sfmctl ")
    assert run(["-h"], env).code == 0
    assert run([], env).code == 2 and run(["memory"], env).code == 2


def test_the_readmes_shell_blocks_run(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert lines[:2] == ["make run", "make test"] and len(lines) > 3
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in lines:
        if line.startswith("make "):
            assert line.split()[1] in targets
        else:
            here = line.replace(".venv/bin/sfmctl", str(SFMCTL))
            done = subprocess.run(["sh", "-c", here], cwd=tmp_path, env=clean_environment(tmp_path, {}),
                                  capture_output=True, check=False, timeout=120)  # fmt: skip
            assert done.returncode == 0, (line, done.stderr)
