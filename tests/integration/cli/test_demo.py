"""`sfmctl memory demo`: fills a namespace of its own once, and never touches what anybody else stored."""

import json

import pytest

from tests.integration.cli.conftest import Cli


def test_the_demo_stores_nothing_twice(cli: Cli) -> None:
    demo = ("memory", "demo", "--limit", "200", "-n", "demo", "-o", "json")
    first, second = cli(*demo).document, cli(*demo).document
    assert first["stored"] == first["passages"] >= 200 and not first["unchanged"]
    assert second["unchanged"] and second["stored"] == 0 and second["passages"] == first["passages"]
    assert all(a["recall"]["hits"] for a in first["answers"])
    listed = cli("memory", "list", "-n", "demo", "--kind", "passage", "--limit", "1", "-o", "json").document
    assert listed["memories"][0]["metadata"]["event_time"].startswith("constructed")
    larger = cli("memory", "demo", "--limit", "260", "-n", "demo", "-o", "json").document
    assert larger["kept"] == first["passages"] and larger["stored"] == larger["passages"] - larger["kept"]
    shown = cli("memory", "demo", "--limit", "260", "-n", "demo", COLUMNS="40").text.splitlines()
    assert any(line.endswith('capture its output" -n demo') for line in shown), "the command to paste is broken"


OTHERS = {
    "no manifest": {"id": "mine", "kind": "passage"},
    "a manifest that is no JSON": {"id": "manifest", "kind": "memory"},
    "a manifest of another kind": {"id": "manifest", "payload": {"anchorS": 0.0}},
    "a manifest without the anchor": {"id": "manifest", "kind": "manifest", "payload": {"fingerprint": "x"}},
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_namespace_that_the_demo_did_not_make_is_refused_and_left_as_it_is(case: str, cli: Cli) -> None:
    name = "others-" + case.replace(" ", "-").lower()
    cli("memory", "namespace", "create", name)
    line = {"text": "mine, not the demo's", **OTHERS[case]}
    cli("memory", "import", "-", "-n", name, given=json.dumps(line).encode())
    before = cli("memory", "export", "-", "-n", name).out
    done = cli("memory", "demo", "--limit", "100", "-n", name, "-o", "json", code=7)
    assert done.document["error"]["code"] == "SFM-CLI-012" and "sfmctl memory demo -n" in done.err
    assert cli("memory", "export", "-", "-n", name).out == before


def test_memories_beside_the_passages_stay(cli: Cli) -> None:
    cli("memory", "demo", "--limit", "150", "-n", "shared-demo")
    for id_ in ("mine", "0123456789abcdef0123"):  # the second looks like a passage's, and has not its metadata
        cli("memory", "store", "kept", "--id", id_, "--kind", "passage", "-n", "shared-demo")
    smaller = cli("memory", "demo", "--limit", "100", "-n", "shared-demo", "-o", "json").document
    assert smaller["removed"] > 0
    for id_ in ("mine", "0123456789abcdef0123"):
        cli("memory", "get", id_, "-n", "shared-demo")
