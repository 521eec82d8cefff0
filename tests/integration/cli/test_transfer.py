"""Export and import: every byte comes back, a second import changes nothing, a bad line is named."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sfmctl.embedded import wait
from testing.daemon import daemon
from tests.integration.cli.conftest import SFMCTL, Cli

LINES = [
    {"id": "a", "text": "plain words", "importance": 2.5, "event_time_s": 1_760_000_000.25},
    {"id": "b-ü", "payload": {"k": [2.0, None, "ü"]}, "text": "JSON payload", "metadata_json": '{"n": 1.0,  "s":"x"}'},
    {"id": "c", "payload_base64": "/wABAg==", "content_type": "application/x-own", "text": "bytes", "kind": "raw"},
    {"id": "d", "payload_text": "line\r\nline\t\x7f", "content_type": "text/plain", "text": "signs",
     "features": {"trust": 0.25}, "half_life_class": "slow"},
]  # fmt: skip


def filled(cli: Cli, name: str) -> None:
    cli("memory", "namespace", "create", name, "--half-life", "default=30d", "--half-life", "slow=inf", "--feature",
        "trust=0.5")  # fmt: skip
    given = "\n".join(json.dumps(line) for line in LINES).encode()
    done = cli("memory", "import", "-", "-n", name, "-o", "json", given=given).document
    assert done["imported"]["created"] == len(LINES)


def test_export_import_export_gives_the_same_bytes(cli: Cli, tmp_path: Path) -> None:
    filled(cli, "moved")
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    done = cli("memory", "export", str(first), "-n", "moved", "-o", "json").document["exported"]
    assert done["memories"] == len(LINES)
    cli("memory", "import", str(first), "-n", "moved-2", "--create")
    cli("memory", "export", str(second), "-n", "moved-2")
    assert first.read_bytes().splitlines()[1:] == second.read_bytes().splitlines()[1:]
    assert cli("memory", "get", "c", "-n", "moved-2", "--raw").out == b"\xff\x00\x01\x02"
    assert cli("memory", "get", "d", "-n", "moved-2", "--raw").out == b"line\r\nline\t\x7f"
    again = cli("memory", "import", str(first), "-n", "moved-2", "-o", "json").document["imported"]
    assert again["duplicate"] == len(LINES) and again["created"] == 0


def test_export_to_a_pipe_and_a_reader_that_leaves(cli: Cli, way: dict[str, str]) -> None:
    filled(cli, "piped-out")
    out = cli("memory", "export", "-", "-n", "piped-out").out
    assert [json.loads(line)["id"] for line in out.splitlines()[1:]] == ["a", "b-ü", "c", "d"]
    with subprocess.Popen([str(SFMCTL), "memory", "export", "-n", "piped-out"], env=way, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as leaving:  # fmt: skip
        assert leaving.stdout is not None and leaving.stderr is not None
        leaving.stdout.close()
        assert leaving.wait(120) == 0
        assert leaving.stderr.read() == b""


def test_an_export_that_fails_leaves_no_file(cli: Cli, tmp_path: Path) -> None:
    cli("memory", "export", str(tmp_path / "x.jsonl"), "-n", "nowhere", code=7)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_line_stops_the_import_and_a_second_run_finishes_it(cli: Cli, tmp_path: Path) -> None:
    cli("memory", "namespace", "create", "broken")
    file = tmp_path / "lines.jsonl"
    lines = [json.dumps({"id": str(n), "text": f"number {n}"}) for n in range(5)]
    file.write_text("\n".join([*lines[:3], "{oops", *lines[3:]]))
    done = cli("memory", "import", str(file), "-n", "broken", code=2)
    assert "line 4" in done.err and "[SFM-CLI-003]" in done.err
    file.write_text("\n".join(lines))
    cli("memory", "import", str(file), "-n", "broken")
    assert cli("memory", "list", "-n", "broken", "-o", "short").text.count("\n") == 5


def test_lines_without_an_id_are_known_again(cli: Cli, tmp_path: Path) -> None:
    cli("memory", "namespace", "create", "nameless")
    file = tmp_path / "lines.jsonl"
    file.write_text('{"text": "x1"}\n{"text": "x2"}\n{"text": "x1"}\n{"text": "x3", "idempotency_key": "mine"}\n')
    counted = [
        cli("memory", "import", str(file), "-n", "nameless", "-o", "json").document["imported"] for _ in range(2)
    ]
    assert [(c["created"], c["duplicate"]) for c in counted] == [(4, 0), (0, 4)]
    assert cli("memory", "list", "-n", "nameless", "-o", "short").text.count("\n") == 4


def counted(cli: Cli, file: Path | str, *words: str, given: bytes = b"", home: str = "named") -> tuple[int, int, str]:
    """Created, duplicates, and what was noted."""
    done = cli("memory", "import", str(file), "-n", home, "-o", "json", *words, given=given)
    return done.document["imported"]["created"], done.document["imported"]["duplicate"], done.err


def test_equal_lines_of_two_imports_are_two_memories(cli: Cli, tmp_path: Path) -> None:
    cli("memory", "namespace", "create", "named")
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    for file in (one, other):
        file.write_text('{"text": "started"}\n{"text": "of ' + file.stem + '"}\n')
    assert counted(cli, one) == (2, 0, "") and counted(cli, other) == (2, 0, "")
    one.write_text(one.read_text() + '{"text": "a line more"}\n')
    (tmp_path / "link.jsonl").symlink_to(one)
    assert counted(cli, tmp_path / "link.jsonl") == (1, 2, "")  # the same file, corrected
    assert counted(cli, one, "--import-id", "tuesday")[:2] == (3, 0)
    assert counted(cli, other, "--import-id", "tuesday")[:2] == (1, 1)


def test_lines_of_stdin_are_known_again_only_by_the_name_of_their_import(cli: Cli) -> None:
    cli("memory", "namespace", "create", "streamed")
    given = b'{"text": "x"}\n{"text": "y", "id": "y"}\n'
    first, second = (counted(cli, "-", given=given, home="streamed") for _ in range(2))
    assert (first[:2], second[:2]) == ((2, 0), (1, 1))
    assert "1 lines without an id" in first[2] and "--import-id" in first[2]
    named = [counted(cli, "-", "--import-id", "pipe", given=given, home="streamed") for _ in range(2)]
    assert named == [(1, 1, ""), (0, 2, "")]
    broken = cli("memory", "import", "-", "-n", "streamed", given=given + b"{oops\n", code=2)
    assert "up to 1 lines without one are stored again" in broken.err


def test_refused_lines_are_counted_and_make_7(cli: Cli) -> None:
    cli("memory", "namespace", "create", "refusing")
    given = b'{"id": "a", "text": "good"}\n{"id": "b", "text": " "}\n'
    done = cli("memory", "import", "-", "-n", "refusing", "-o", "json", given=given, code=7).document
    assert done["imported"] == {"received": 2, "created": 1, "updated": 0, "duplicate": 0, "conflict": 0, "rejected": 1}
    assert [(e["item"], e["code"]) for e in done["firstErrors"]] == [(1, "SFM-MEM-006")]


def test_an_import_that_lost_its_daemon_says_how_to_go_on(cli: Cli, way: dict[str, str], tmp_path: Path) -> None:
    with daemon(tmp_path) as mortal:
        there = mortal.profile()
        env = {"SFM_ADDRESS": there.address, "SFM_CA_FILE": there.ca_file, "SFM_TOKEN_FILE": there.token_file}
        cli("memory", "namespace", "create", "broken", **env)
        command = [str(SFMCTL), "memory", "import", "-", "-n", "broken"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=way | env) as importing:
            assert importing.stdin is not None
            for number in range(5000):
                importing.stdin.write(json.dumps({"id": f"m{number}", "text": f"memory {number}"}).encode() + b"\n")
            importing.stdin.flush()
            listing = ("memory", "list", "-n", "broken", "--limit", "1", "-o", "short")
            assert wait(lambda: cli(*listing, **env).text != "", 20)
            mortal.kill()
            _, err = importing.communicate(timeout=30)
    assert importing.returncode == 5
    assert b"memories were sent" in err and b"run the same command again" in err, err


def test_small_messages_carry_an_export(cli: Cli, tmp_path: Path) -> None:
    with daemon(tmp_path, settings={"SOMA_CALLS__MESSAGE_BYTES": "65536"}) as narrow:
        there = narrow.profile()
        env = {"SFM_ADDRESS": there.address, "SFM_CA_FILE": there.ca_file, "SFM_TOKEN_FILE": there.token_file}
        cli("memory", "namespace", "create", "narrow", **env)
        for part in range(4):
            lines = "\n".join(json.dumps({"id": f"m{part}-{n}", "text": f"memory {n}"}) for n in range(10))
            cli("memory", "store", "-n", "narrow", "--jsonl", "-", given=lines.encode(), **env)
        assert len(cli("memory", "export", "-", "-n", "narrow", **env).text.splitlines()) == 41


@pytest.mark.skipif(shutil.which("jq") is None, reason="the page's command needs jq")
def test_the_pages_way_to_another_embedder(cli: Cli, way: dict[str, str]) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/how-to/move.md").read_text()
    lines = [line for line in page.partition("## With another embedder")[2].splitlines() if line.startswith("    ")]
    cli("memory", "namespace", "create", "notes", "--dim", "8")
    rule = {"id": "a", "payload_text": "never on a Friday", "content_type": "text/plain", "vector": [1] * 8}
    cli("memory", "import", "-", "-n", "notes", given=json.dumps(rule).encode())
    env = way | {"PATH": f"{SFMCTL.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", "\n".join(lines)], env=env, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "never on a Friday" in cli("memory", "recall", "Friday", "-n", "notes-3", "-o", "short").text
