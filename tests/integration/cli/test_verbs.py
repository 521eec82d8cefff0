"""Each verb of `sfmctl memory` does what it says, against a real daemon."""

import json
import math
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sfmctl.embedded import wait
from sfmd.rpc.client import Client
from testing.daemon import daemon
from tests.integration.cli.conftest import SFMCTL, Cli, clean_environment

TEXT_TYPE = "text/plain; charset=utf-8"


def test_store_answers_as_the_first_time_and_keeps_the_payload_to_the_byte(cli: Cli) -> None:
    cli("memory", "namespace", "create", "verbs")
    body = b"\xff\x00 not UTF-8 \r\n"
    store = ("memory", "store", "words to embed", "--payload", "-", "--content-type", "application/x-own", "--id", "a",
             "--at", "2026-05-01", "-n", "verbs", "-o", "json")  # fmt: skip
    first = cli(*store, given=body).document["stored"]
    again = cli(*store, given=body).document["stored"]
    assert (first["outcome"], again["outcome"]) == ("CREATED", "DUPLICATE")
    assert (first["seq"], first["version"]) == (again["seq"], again["version"])
    assert cli("memory", "get", "a", "-n", "verbs", "--raw").out == body
    shown = cli("memory", "get", "a", "-n", "verbs", "-o", "json").document["memory"]
    assert shown["contentType"] == "application/x-own" and shown["eventTimeS"] == 1777593600.0


def test_text_comes_from_standard_input(cli: Cli) -> None:
    cli("memory", "namespace", "create", "piped")
    id_ = cli("memory", "store", "-", "-n", "piped", "-o", "short", given="Grüße, 世界\n".encode()).text.strip()
    assert cli("memory", "get", id_, "-n", "piped", "--raw").out == "Grüße, 世界\n".encode()


def test_recall_multiplies_what_it_shows(cli: Cli, namespace: str) -> None:
    hits = cli("memory", "recall", "is the build green", "-n", namespace, "-o", "json").document["hits"]
    assert [h["rank"] for h in hits] == [1, 2, 3][: len(hits)] and hits[0]["id"] == "green"
    for hit in hits:
        terms = hit["explanation"]
        product = terms["similarity"] * terms["importance"] * 2 ** -(terms["ageS"] / terms["halfLifeS"])
        assert math.isclose(hit["score"], product, rel_tol=1e-9)
    table = cli("memory", "recall", "is the build green", "-n", namespace).text
    assert all(word in table for word in ("score", "sim", "imp", "decay", "green since Tuesday", "3 memories"))


def test_filters_and_bounds(cli: Cli, namespace: str) -> None:
    def ids(*options: str) -> list[str]:
        text = cli("memory", "recall", "build deploy", "-n", namespace, "-o", "short", *options).text
        return [line.split("\t")[1] for line in text.splitlines()]

    assert ids("--kind", "note") == ["green"]
    assert ids("--where", "team=ops|qa", "--where", "n>=3") == ["rule"]
    assert ids("--to", "2024-01-01") == ["old"]
    assert ids("--min-score", "1") == [] and len(ids("-k", "1")) == 1


def test_a_batch_answers_each_question_as_if_it_were_asked_alone(cli: Cli, namespace: str) -> None:
    asked = ["is the build green", "who deploys on Friday", "rule"] * 30
    lines = "\n".join(
        json.dumps({"text": words, "k": 2} if n % 2 else {"text": words}) for n, words in enumerate(asked)
    )
    recall = ("memory", "recall", "-n", namespace, "--now", "2026-06-01", "-o", "json")
    answers = cli(*recall, "--batch", "-", given=(lines + "\n\n").encode()).document["answers"]
    assert [a["question"] for a in answers] == asked
    for n in (0, 1, 2, 89):
        alone = cli(*recall, *(("-k", "2") if n % 2 else ()), asked[n]).document
        assert answers[n]["recall"]["hits"] == alone["hits"] != []


def test_a_refused_question_has_its_error_in_place_and_the_others_their_answers(cli: Cli, namespace: str) -> None:
    lines = b'{"text": "is the build green"}\n{"vector": [1, 2]}\n'
    recall = ("memory", "recall", "-n", namespace, "--batch", "-")
    answers = cli(*recall, "-o", "json", given=lines, code=7).document["answers"]
    assert answers[0]["recall"]["hits"][0]["id"] == "green"
    assert answers[1]["error"]["code"] == "SFM-MEM-001"
    assert [line.split("\t")[0] for line in cli(*recall, "-o", "short", given=lines, code=7).text.splitlines()][
        -1
    ] == "2"
    assert "SFM-MEM-001" in cli(*recall, given=lines, code=7).text
    for bad in (b"[]", b"{}", b'{"text": 3}', b'{"words": "x"}', b'{"text": "a", "vector": [1]}', b"{"):
        told = cli(*recall, given=b'{"text": "a"}\n' + bad, code=2)
        assert "line 2" in told.err
    assert "--batch" in cli(*recall, "a question", given=lines, code=2).err


def test_vectors_of_every_form_find_the_same(cli: Cli, tmp_path: Path) -> None:
    cli("memory", "namespace", "create", "vectors", "--dim", "8")
    made = np.random.default_rng(3).normal(size=(3, 8)).astype("<f4")
    for number, vector in enumerate(made):
        (tmp_path / "v.json").write_text(json.dumps([float(x) for x in vector]))
        cli("memory", "store", f"number {number}", "--vector", str(tmp_path / "v.json"), "--id", f"v{number}",
            "-n", "vectors")  # fmt: skip
    np.save(tmp_path / "q.npy", made[1])
    recall = ("memory", "recall", "-n", "vectors", "-k", "1", "-o", "short")
    assert cli(*recall, "--vector", str(tmp_path / "q.npy")).text.split("\t")[1] == "v1"
    assert cli(*recall, "--vector", "-", given=made[2].tobytes()).text.split("\t")[1] == "v2"


def test_explain_names_every_term_and_says_when_there_is_none(cli: Cli, namespace: str) -> None:
    text = cli("memory", "explain", "is the build green", "green", "-n", namespace).text
    assert all(word in text for word in ("similarity", "importance", "decay", "score", "rank 1"))
    assert cli("memory", "explain", "build", "nowhere", "-n", namespace, code=3).text == ""


def test_a_receipt_replays_identically_after_later_writes(cli: Cli, tmp_path: Path) -> None:
    cli("memory", "namespace", "create", "replayed")
    cli("memory", "store", "the first build", "-n", "replayed", "--id", "a", "--importance", "2")
    receipt = str(tmp_path / "receipt.json")
    before = cli("memory", "recall", "build", "-n", "replayed", "--receipt", receipt, "-o", "json").document["hits"]
    assert Path(receipt).stat().st_mode & 0o777 == 0o600
    cli("memory", "store", "a better build", "-n", "replayed", "--importance", "90")
    cli("memory", "namespace", "configure", "replayed", "--beta", "3")
    replayed = cli("memory", "replay", receipt, "-o", "json").document
    assert replayed["identical"] is True and replayed["recall"]["hits"] == before


def test_a_changed_receipt_is_not_identical_or_refused(cli: Cli, tmp_path: Path, namespace: str) -> None:
    receipt = tmp_path / "receipt.json"
    cli("memory", "recall", "build", "-n", namespace, "--receipt", str(receipt))
    other = tmp_path / "other.json"
    cli("memory", "recall", "Friday", "-n", namespace, "--receipt", str(other))
    body, theirs = json.loads(receipt.read_text()), json.loads(other.read_text())
    receipt.write_text(json.dumps(body | {"requestBase64": theirs["requestBase64"]}))
    assert "SFM-MEM-017" in cli("memory", "replay", str(receipt), code=7).err


def test_delete_undo_reinforce_and_purge(cli: Cli) -> None:
    cli("memory", "namespace", "create", "changed")
    cli("memory", "store", "to be changed", "-n", "changed", "--id", "x")

    def outcome(*words: str) -> str:
        return cli("memory", *words, "-n", "changed", "-o", "json").document["changed"]["outcome"]

    assert outcome("reinforce", "x", "--importance", "5") == "REINFORCED"
    assert outcome("delete", "x") == "DELETED"
    assert "SFM-MEM-008" in cli("memory", "get", "x", "-n", "changed", code=7).err
    assert outcome("undo", "x") == "RESTORED"
    assert "SFM-CLI-006" in cli("memory", "purge", "x", "-n", "changed", code=2).err
    erased = cli("memory", "purge", "x", "-n", "changed", "--yes", "-o", "json").document["purged"]
    assert erased["versionsErased"] >= 1
    assert "SFM-MEM-019" in cli("memory", "undo", "x", "-n", "changed", code=7).err


def test_list_pages_and_namespaces(cli: Cli, namespace: str) -> None:
    document = cli("memory", "list", "-n", namespace, "--limit", "2", "-o", "json").document
    assert [m["id"] for m in document["memories"]] == ["green", "old"] and document["more"] is True
    names = cli("memory", "namespace", "list", "-o", "short").text.splitlines()
    assert namespace in names
    stats = cli("memory", "stats", "-n", namespace, "-o", "json").document
    assert [(n["namespace"], n["live"]) for n in stats["namespaces"]] == [(namespace, 3)]
    assert stats["horizonSeq"] == 1
    assert "horizon 1," in cli("memory", "stats", "-n", namespace).text


def test_watch_is_one_document_up_to_a_seq(cli: Cli, namespace: str) -> None:
    seq = cli("memory", "stats", "-o", "json").document["seq"]
    changes = cli("memory", "watch", "-n", namespace, "--from-seq", "0", "--to-seq", str(seq), "-o", "json")
    assert [c["id"] for c in changes.document["changes"] if c["op"] == "created"] == ["green", "rule", "old"]


def test_interrupting_a_watch_closes_its_document_and_leaves_with_130(way: dict[str, str], namespace: str) -> None:
    code, seen = watched(way, namespace, '"old"', lambda process: process.send_signal(signal.SIGINT))
    assert code == 130 and json.loads(seen)["kind"] == "Changes"


def test_a_watch_that_cannot_begin_is_one_document(cli: Cli) -> None:
    failed = cli("memory", "watch", "--from-seq", "1", "-n", "nosuch", "-o", "json", code=7).document
    assert (failed["kind"], failed["error"]["code"]) == ("Error", "SFM-MEM-007")


def test_a_watch_that_loses_its_daemon_is_one_document_which_names_the_error(tmp_path: Path) -> None:
    with daemon(tmp_path) as process:
        profile = process.profile()
        with Client(profile) as client:
            client.create_namespace("notes", embedder="hash-v1")
            client.store("notes", "words", id="last")
        way = clean_environment(tmp_path, {"SFM_ADDRESS": profile.address, "SFM_CA_FILE": profile.ca_file,
                                           "SFM_TOKEN_FILE": profile.token_file})  # fmt: skip
        code, seen = watched(way, "notes", '"last"', lambda _: process.kill())
    document = json.loads(seen)
    assert [c["op"] for c in document["changes"]] == ["namespace", "created"]
    assert (code, document["error"]["code"], document["error"]["exitCode"]) == (5, "SFM-MEM-034", 5)


def watched(
    way: dict[str, str], namespace: str, until: str, then: Callable[[subprocess.Popen[bytes]], object]
) -> tuple[int, bytes]:
    """Watch until these words come, do something to the watch or its daemon; how it ended, and what it said."""
    command = [str(SFMCTL), "memory", "watch", "-n", namespace, "--from-seq", "0", "-o", "json"]
    with subprocess.Popen(command, env=way, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None and watching.stderr is not None
        os.set_blocking(watching.stdout.fileno(), False)
        seen = bytearray()
        assert wait(lambda: until.encode() in seen.__iadd__(watching.stdout.read() or b""), 60.0)
        then(watching)
        code = watching.wait(60)
        os.set_blocking(watching.stdout.fileno(), True)
        seen += watching.stdout.read()
        assert b"Traceback" not in watching.stderr.read()
    return code, bytes(seen)


def test_a_daemon_with_small_pages_is_listed_whole(cli: Cli, tmp_path: Path) -> None:
    with daemon(tmp_path, settings={"SOMA_LIMITS__PAGE_ITEMS": "2"}) as small:
        there = small.profile()
        env = {"SFM_ADDRESS": there.address, "SFM_CA_FILE": there.ca_file, "SFM_TOKEN_FILE": there.token_file}
        cli("memory", "namespace", "create", "notes", **env)
        lines = "\n".join(json.dumps({"id": f"m{n}", "text": f"memory {n}"}) for n in range(5))
        cli("memory", "store", "-n", "notes", "--jsonl", "-", given=lines.encode(), **env)
        for words in ([], ["--limit", "0"]):
            assert len(cli("memory", "list", "-n", "notes", *words, "-o", "short", **env).text.splitlines()) == 5
        assert len(cli("memory", "list", "-n", "notes", "--limit", "3", "-o", "short", **env).text.splitlines()) == 3
