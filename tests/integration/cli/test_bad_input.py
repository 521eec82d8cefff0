"""Bad input over the command line: the right exit code, the code printed, no traceback, nothing stored."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from testing.daemon import DaemonProcess
from tests.integration.cli.conftest import SFMCTL, Cli

NS = ("-n", "bad")


@pytest.fixture(scope="module", autouse=True)
def prepared(way: dict[str, str]) -> None:
    from tests.integration.cli.conftest import run

    assert run(["memory", "namespace", "create", "bad", "--dim", "8", "--embedder", ""], way).code == 0
    assert run(["memory", "namespace", "create", "texts"], way).code == 0
    assert run(["memory", "store", "what is there", "--id", "there", "-n", "texts"], way).code == 0


def vector(values: list[float]) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / "v").write_bytes(np.asarray(values, "<f4").tobytes())
        return str(folder / "v")

    return write


EIGHT = vector([1.0] * 8)
REFUSED = {
    "wrong dimension": ("SFM-MEM-001", ["store", "x", "--vector", vector([1.0] * 9), *NS]),
    "NaN": ("SFM-MEM-002", ["store", "x", "--vector", vector([float("nan")] + [1.0] * 7), *NS]),
    "infinite": ("SFM-MEM-002", ["recall", "--vector", vector([float("inf")] + [1.0] * 7), *NS]),
    "zero vector": ("SFM-MEM-003", ["store", "x", "--vector", vector([0.0] * 8), *NS]),
    "not JSON": ("SFM-MEM-004", ["store", "x", "--payload", EIGHT, "--content-type", "application/json",
                                 "--vector", EIGHT, *NS]),
    "empty text": ("SFM-MEM-006", ["store", " ", "-n", "texts"]),
    "nothing to ask": ("SFM-MEM-006", ["recall", " ", "-n", "texts"]),
    "unknown namespace": ("SFM-MEM-007", ["recall", "x", "-n", "nowhere"]),
    "unknown memory": ("SFM-MEM-008", ["get", "nowhere", "-n", "texts"]),
    "same id, other content": ("SFM-MEM-009", ["store", "something else", "--id", "there", "-n", "texts"]),
    "another version": ("SFM-MEM-010", ["store", "x", "--id", "there", "--expected-version", "9", "-n", "texts"]),
    "importance not finite": ("SFM-MEM-011", ["store", "x", "--importance", "nan", "-n", "texts"]),
    "text without embedder": ("SFM-MEM-013", ["store", "x", *NS]),
    "clock far away": ("SFM-MEM-014", ["store", "x", "--at", "1e12", "-n", "texts"]),
    "a seq to come": ("SFM-MEM-016", ["recall", "x", "--as-of", "999999999", "-n", "texts"]),
    "another namespace of that name": ("SFM-MEM-020", ["namespace", "create", "bad", "--dim", "9"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_the_daemon_refuses_with_7_and_its_code(case: str, cli: Cli, tmp_path: Path) -> None:
    code, words = REFUSED[case]
    done = cli("memory", *(w(tmp_path) if callable(w) else w for w in words), "-o", "json", code=7)
    assert done.document["error"]["code"] == code and done.document["error"]["exitCode"] == 7
    assert f"[{code}]" in done.err and "next: " in done.err


WRONG = {
    "unknown option": ("SFM-CLI-002", ["recall", "x", "--bogus"]),
    "unknown verb": ("SFM-CLI-002", ["remember", "x"]),
    "no namespace": ("SFM-CLI-002", ["recall", "x"]),
    "k out of range": ("SFM-CLI-002", ["recall", "x", "-k", "1001", "-n", "texts"]),
    "text and vector": ("SFM-CLI-002", ["recall", "x", "--vector", EIGHT, "-n", "texts"]),
    "nothing to store": ("SFM-CLI-002", ["store", "-n", "texts"]),
    "no such time": ("SFM-CLI-002", ["store", "x", "--at", "yesterday", "-n", "texts"]),
    "no such condition": ("SFM-CLI-002", ["recall", "x", "--where", "team", "-n", "texts"]),
    "no such half-life": ("SFM-CLI-002", ["namespace", "create", "y", "--half-life", "a=soon"]),
    "feature no number": ("SFM-CLI-002", ["store", "x", "--feature", "trust=high", "-n", "texts"]),
    "vector no vector": ("SFM-CLI-003", ["store", "x", "--vector", "README.md", "-n", "texts"]),
    "no such file": ("SFM-CLI-003", ["import", "/nowhere/x.jsonl", "-n", "texts"]),
    "no receipt": ("SFM-CLI-003", ["replay", "README.md"]),
    "no such profile": ("SFM-CLI-004", ["recall", "x", "--profile", "nowhere", "-n", "texts"]),
    "half-life of too many digits": ("SFM-CLI-002", ["namespace", "create", "y", "--half-life", f"a={'9' * 400}"]),
    "receipt to stdout": ("SFM-CLI-002", ["recall", "x", "--receipt", "-", "-n", "texts"]),
    "receipt in no folder": ("SFM-CLI-007", ["recall", "x", "--receipt", "/nowhere/r.json", "-n", "texts"]),
    "no certificate": ("SFM-MEM-032", ["list", "-n", "texts", "--ca-file", "README.md"]),
    "no such folder": ("SFM-CLI-007", ["export", "/nowhere/x.jsonl", "-n", "texts"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_leaves_with_2_and_says_what_to_type(case: str, cli: Cli, tmp_path: Path) -> None:
    code, words = WRONG[case]
    done = cli("memory", *(w(tmp_path) if callable(w) else w for w in words), code=2)
    assert f"[{code}]" in done.err and "next: " in done.err and done.text == ""
    assert done.err.startswith("error: "), done.err  # and not with words of gRPC's own


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", '{"text": 3}', '{"txt": "x"}', "{}", '{"text": "x", "vector": [1]}',
             '{"payload_base64": "%", "text": "x"}', '{"text": "x", "features": {"a": "b"}}', "\udcff"],
)  # fmt: skip
def test_a_bad_line_is_named_and_stores_nothing(line: str, cli: Cli) -> None:
    given = b'{"id": "good", "text": "good"}\n' + line.encode(errors="surrogateescape") + b"\n"
    done = cli("memory", "store", "--jsonl", "-", "-n", "texts", given=given, code=2)
    assert "line 2" in done.err and "[SFM-CLI-003]" in done.err
    assert "SFM-MEM-008" in cli("memory", "get", "good", "-n", "texts", code=7).err


def test_in_a_batch_each_item_has_its_own_outcome_and_the_good_ones_are_stored(cli: Cli) -> None:
    cli("memory", "namespace", "create", "batch")
    lines = [{"id": "a", "text": "one"}, {"id": "b", "text": " "}, {"id": "c", "text": "x", "event_time_s": 1e15},
             {"id": "a", "text": "other"}, {"id": "d", "text": "two"}]  # fmt: skip
    given = "\n".join(map(json.dumps, lines)).encode()
    done = cli("memory", "store", "--jsonl", "-", "-n", "batch", "-o", "json", given=given, code=7).document
    assert [(i["outcome"], i.get("error", {}).get("code")) for i in done["items"]] == [
        ("CREATED", None), ("REJECTED", "SFM-MEM-006"), ("REJECTED", "SFM-MEM-014"), ("CONFLICT", "SFM-MEM-009"),
        ("CREATED", None),
    ]  # fmt: skip
    assert cli("memory", "list", "-n", "batch", "-o", "short").text.count("\n") == 2


def test_tokens_missing_wrong_and_empty(cli: Cli, tmp_path: Path) -> None:
    wrong, empty = tmp_path / "wrong", tmp_path / "empty"
    wrong.write_text("sfm_0123456789ab_" + "x" * 43 + "\n")
    empty.write_text("")
    listing = ("memory", "namespace", "list")
    assert "SFM-MEM-021" in cli(*listing, code=2, SFM_TOKEN_FILE="").err
    assert "SFM-MEM-021" in cli(*listing, code=2, SFM_TOKEN_FILE=str(empty)).err
    refused = cli(*listing, code=7, SFM_TOKEN_FILE=str(wrong))
    assert "SFM-MEM-021" in refused.err and "x" * 43 not in refused.err


def test_an_expired_and_a_narrow_token(cli: Cli, served: DaemonProcess, tmp_path: Path) -> None:
    sfmd = [str(SFMCTL.with_name("sfmd")), "token", "create", "--data-dir", str(served.data_dir)]
    short, narrow = tmp_path / "short", tmp_path / "narrow"
    for file, words in ((short, ["--lifetime-s", "0.001"]), (narrow, ["--verb", "read", "--namespace", "texts"])):
        made = subprocess.run([*sfmd, "--principal", file.name, *words], capture_output=True, check=True)
        file.write_bytes(made.stdout)
    assert "expired" in cli("memory", "list", "-n", "texts", code=7, SFM_TOKEN_FILE=str(short)).err
    assert cli("memory", "list", "-n", "texts", SFM_TOKEN_FILE=str(narrow)).code == 0
    for words in (["store", "x", "-n", "texts"], ["list", "-n", "bad"]):
        assert "SFM-MEM-022" in cli("memory", *words, code=7, SFM_TOKEN_FILE=str(narrow)).err


def test_a_client_certificate_that_is_none_is_named(cli: Cli, served: DaemonProcess) -> None:
    tls = served.data_dir / "tls"
    for cert, key in ((tls / "ca.pem", tls / "server.key"), ("README.md", tls / "server.key")):
        done = cli("memory", "list", "-n", "texts", code=2, SFM_CERT_FILE=str(cert), SFM_KEY_FILE=str(key))
        assert done.err.startswith(f"error: {cert} and {key} are no certificate and its key"), done.err
        assert "[SFM-MEM-032]" in done.err


def test_nobody_there_is_5_an_untrusted_one_is_5_and_too_late_is_6(
    cli: Cli, served: DaemonProcess, tmp_path: Path
) -> None:
    listing = ("memory", "namespace", "list", "--timeout", "5")
    gone = cli(*listing, code=5, SFM_ADDRESS="127.0.0.1:1")
    assert "SFM-MEM-034" in gone.err and "next: check that a daemon listens at 127.0.0.1:1" in gone.err
    from testing.daemon import daemon

    with daemon(tmp_path) as other:
        untrusted = cli(*listing, code=5, SFM_CA_FILE=other.profile().ca_file)
    assert "SFM-MEM-035" in untrusted.err
    assert "SFM-MEM-026" in cli("memory", "recall", "x", "-n", "texts", "--timeout", "0.001", code=6).err
    assert served.alive and served.http("/readyz")[0] == 200


def test_a_payload_over_the_limit(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (5 * 2**20))
    done = cli("memory", "store", "x", "--payload", str(tmp_path / "large"), "--content-type", "text/plain",
               "-n", "texts", code=7)  # fmt: skip
    assert "SFM-MEM-005" in done.err


BYTES = "ab\udcff"
"""An argument whose last byte is 0xff, as Python hands it over."""
NO_TEXT = {
    "recall": ["recall", BYTES], "explain": ["explain", BYTES, "there"], "get": ["get", BYTES],
    "store": ["store", BYTES], "store --metadata": ["store", "x", "--metadata", f"a={BYTES}"],
    "delete": ["delete", BYTES], "undo": ["undo", BYTES], "reinforce": ["reinforce", BYTES],
    "purge": ["purge", BYTES, "--yes"], "list": ["list", "--kind", BYTES], "watch": ["watch", "-n", BYTES],
    "export": ["export", "--kind", BYTES], "stats": ["stats", "-n", BYTES], "demo": ["demo", "-n", BYTES],
    "namespace create": ["namespace", "create", BYTES], "get --address": ["get", "x", "--address", BYTES],
}  # fmt: skip


@pytest.mark.parametrize("case", NO_TEXT)
def test_an_argument_that_is_no_utf8_is_wrong_usage(case: str, cli: Cli) -> None:
    done = cli("memory", *NO_TEXT[case], code=2, SFM_NAMESPACE="texts")
    assert "not UTF-8 text: " in done.err and r"ab\xff" in done.err and "[SFM-CLI-002]" in done.err
    assert f"next: sfmctl memory {case.partition(' -')[0]} --help" in done.err


def test_a_variable_that_is_no_utf8_is_named_and_its_value_is_not_shown(cli: Cli) -> None:
    done = cli("memory", "list", "-n", "texts", code=2, SFM_TOKEN=BYTES)
    assert "not UTF-8 text: the value of SFM_TOKEN" in done.err and "ab" not in done.err


def test_a_file_whose_name_is_no_utf8_is_told_in_json(cli: Cli, tmp_path: Path) -> None:
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    missing = cli("memory", "import", f"/nowhere/{BYTES}", "-n", "texts", "-o", "json", code=2, **strict)
    assert missing.document["error"]["code"] == "SFM-CLI-003"
    made = cli("memory", "export", str(tmp_path / BYTES), "-n", "texts", "-o", "json", **strict).document
    assert made["exported"]["file"].endswith(BYTES) and (tmp_path / BYTES).exists()


HOSTILE = "a\x1b]0;title\x07\nb\x9b2J\u202e[bold]"
SHOWN = r"a\x1b]0;title\x07\nb\x9b2J\u202e[bold]"


def test_what_a_terminal_would_act_on_is_shown_as_an_escape(cli: Cli) -> None:
    cli("memory", "namespace", "create", "hostile")
    line = {"id": HOSTILE, "kind": "k\x1b[2J", "text": "words \x1b[31m of red"}
    done = cli("memory", "import", "-", "-n", "hostile", "-o", "json", given=json.dumps(line).encode())
    at = ["--from-seq", str(done.document["lastSeq"]), "--to-seq", str(done.document["lastSeq"])]
    wide = {"COLUMNS": "200", "SFM_NAMESPACE": "hostile"}
    verbs = (["list"], ["get", HOSTILE], ["recall", "words"], ["explain", "words", HOSTILE],
             ["reinforce", HOSTILE], ["undo", HOSTILE], ["watch", *at])  # fmt: skip
    for words in verbs:
        for form in ("table", "short", "json"):
            done = cli("memory", *words, "-o", form, **wide)
            seen = done.text.replace("\n", "")
            assert all(c.isprintable() or c == "\t" for c in seen), (words, form, seen)
            if form != "json" and words[0] != "explain":
                assert SHOWN in seen, (words, form, seen)
    assert HOSTILE in [c["id"] for c in cli("memory", "watch", *at, "-o", "json",
                                            **wide).document["changes"]]  # fmt: skip
    refused = cli("memory", "get", HOSTILE + "!", code=7, **wide)
    assert all(c.isprintable() for c in refused.err.replace("\n", ""))
