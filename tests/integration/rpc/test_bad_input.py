"""Bad input over real gRPC: the right status, a stable code, nothing stored, and the daemon alive."""

import json
import math
import struct

import pytest

from sfmd.rpc.aio_client import AioClient
from sfmd.rpc.client import CallFailed, memory_input, recall_request
from sfmd.rpc.connection import Retry
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.requests import Unary, store_input
from testing.calls import DIM, ONE
from testing.rpc import serve

NAN = struct.pack(f"<{DIM}f", math.nan, *[1.0] * (DIM - 1))
INF = struct.pack(f"<{DIM}f", -math.inf, *[1.0] * (DIM - 1))
OTHER = struct.pack(f"<{DIM}f", 0.0, 1.0, *[0.0] * (DIM - 2))
DEEP = b"[" * 200_000


@pytest.fixture
async def client(tmp_path):
    async with serve(tmp_path) as served, AioClient(served.profile(), retry=Retry(attempts=1)) as calls:
        await calls.create_namespace("vectors", dim=DIM)
        await calls.create_namespace("texts", embedder="hash-v1")
        yield calls


async def refused(awaitable) -> CallFailed:
    with pytest.raises(CallFailed) as failed:
        await awaitable
    return failed.value


BAD_MEMORIES = {
    "wrong dimension": (dict(vector=ONE[:-4]), "INVALID_ARGUMENT", "SFM-MEM-001"),
    "a vector of no whole floats": (dict(vector=ONE[:-1]), "INVALID_ARGUMENT", "SFM-MEM-001"),
    "an empty vector": (dict(vector=b""), "INVALID_ARGUMENT", "SFM-MEM-001"),
    "a NaN component": (dict(vector=NAN), "INVALID_ARGUMENT", "SFM-MEM-002"),
    "an infinite component": (dict(vector=INF), "INVALID_ARGUMENT", "SFM-MEM-002"),
    "a zero vector": (dict(vector=bytes(4 * DIM)), "INVALID_ARGUMENT", "SFM-MEM-003"),
    "a payload that is not JSON": (dict(payload=b"{not json"), "INVALID_ARGUMENT", "SFM-MEM-004"),
    "a payload of endless brackets": (dict(payload=DEEP), "INVALID_ARGUMENT", "SFM-MEM-004"),
    "a payload over the limit": (dict(payload=b'"' + b"a" * 2**20 + b'"'), "INVALID_ARGUMENT", "SFM-MEM-005"),
    "an id over the limit": (dict(id="i" * 257), "INVALID_ARGUMENT", "SFM-MEM-005"),
    "an id with a NUL": (dict(id="a\x00b"), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "a key over the limit": (dict(idempotency_key="k" * 257), "INVALID_ARGUMENT", "SFM-MEM-005"),
    "a kind over the limit": (dict(kind="k" * 65), "INVALID_ARGUMENT", "SFM-MEM-005"),
    "metadata over the limit": (dict(metadata={"a": "b" * 70_000}), "INVALID_ARGUMENT", "SFM-MEM-005"),
    "metadata that is no object": (dict(metadata="[1]"), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "metadata that is not JSON": (dict(metadata="{"), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "metadata with a number that is none": (dict(metadata='{"a":NaN}'), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "metadata with a number beyond all": (dict(metadata='{"a":1e999}'), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "such a number deep inside": (dict(metadata='{"a":[{"b":-1e999}]}'), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "metadata of endless brackets": (dict(metadata="[" * 60_000), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "a NaN importance": (dict(importance=math.nan), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "an infinite importance": (dict(importance=math.inf), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "a clock far away": (dict(event_time_s=1e12), "INVALID_ARGUMENT", "SFM-MEM-014"),
    "a clock before clocks": (dict(event_time_s=-1e12), "INVALID_ARGUMENT", "SFM-MEM-014"),
    "a clock that is no number": (dict(event_time_s=math.nan), "INVALID_ARGUMENT", "SFM-MEM-014"),
    "an unknown half-life class": (dict(half_life_class="weekly"), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "an unknown feature": (dict(features={"trust": 0.5}), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "both text and vector": (dict(text="x"), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "neither text nor vector": (dict(vector=None), "INVALID_ARGUMENT", "SFM-MEM-011"),
    "a version that does not exist": (dict(expected_version=3), "FAILED_PRECONDITION", "SFM-MEM-010"),
}


def memory(**changed) -> pb.MemoryInput:
    fields = dict(payload=b"{}", vector=ONE) | changed
    return memory_input(fields.pop("payload"), **fields)


async def nothing_stored(client: AioClient, namespace: str = "vectors") -> None:
    assert [m.id async for m in client.list(namespace)] == []
    assert next(n for n in (await client.stats(namespace)).namespaces).live == 0


@pytest.fixture
async def whole(client):
    """A client, and the promise that after the test nothing is stored and a good store still works."""
    yield client
    await nothing_stored(client)
    await nothing_stored(client, "texts")
    assert (await client.call(store_input("vectors", memory(id="good")))).outcome == pb.CREATED


async def test_every_bad_memory_has_its_status_and_code(whole):
    found = {}
    for name, (changed, _, _) in BAD_MEMORIES.items():
        failed = await refused(whole.call(store_input("vectors", memory(**changed))))
        found[name] = (failed.status, failed.code)
        assert failed.next_step, name
        assert failed.request_id, name
    assert found == {name: (status, code) for name, (_, status, code) in BAD_MEMORIES.items()}


async def test_texts_that_are_no_texts(whole):
    found = {text: (await refused(whole.store("texts", {}, text=text))).code for text in ("", "   ", "\n\t", "!?")}
    assert found == dict.fromkeys(found, "SFM-MEM-006")
    assert (await refused(whole.store("texts", {}, text="a" * 300_000))).code == "SFM-MEM-005"
    assert (await refused(whole.store("vectors", {}, text="words"))).code == "SFM-MEM-013"


async def test_an_unknown_namespace_is_not_found_everywhere(whole):
    asked = [whole.store("nowhere", {}, vector=ONE), whole.recall("nowhere", vector=ONE), whole.get("nowhere", "a"),
             whole.list_page("nowhere"), whole.delete("nowhere", "a"), whole.purge("nowhere", "a"),
             whole.undo("nowhere", "a"), whole.reinforce("nowhere", "a"), whole.stats("nowhere"),
             whole.configure_namespace("nowhere", alpha=1.0)]  # fmt: skip
    for call in asked:
        failed = await refused(call)
        assert (failed.status, failed.code) == ("NOT_FOUND", "SFM-MEM-007")
    for stream in (whole.export("nowhere"), whole.watch("nowhere"), whole.store_many("nowhere", [memory()])):
        with pytest.raises(CallFailed) as failed_stream:
            await anext(stream)
        assert failed_stream.value.code == "SFM-MEM-007"
    assert (await refused(whole.import_many("nowhere", [memory()]))).code == "SFM-MEM-007"


async def test_an_unknown_memory_is_not_found(whole):
    for call in (whole.get("vectors", "a"), whole.delete("vectors", "a"), whole.purge("vectors", "a"),
                 whole.undo("vectors", "a"), whole.reinforce("vectors", "a")):  # fmt: skip
        failed = await refused(call)
        assert (failed.status, failed.code) == ("NOT_FOUND", "SFM-MEM-008")


async def test_bad_recalls(whole):
    bad = {
        "SFM-MEM-001": dict(vector=ONE[:-4]),
        "SFM-MEM-002": dict(vector=NAN),
        "SFM-MEM-003": dict(vector=bytes(4 * DIM)),
        "SFM-MEM-013": dict(text="words"),
        "SFM-MEM-014": dict(vector=ONE, now_s=1e13),
        "SFM-MEM-016": dict(vector=ONE, as_of_seq=2**64 - 1),
    }
    found = {code: (await refused(whole.recall("vectors", **fields))).code for code, fields in bad.items()}
    assert found == {code: code for code in bad}
    for fields in (dict(k=1001), dict(k=2**32 - 1), dict(alpha=-1.0), dict(alpha=math.nan), dict(beta=0.0),
                   dict(beta=math.inf), dict(min_score=math.nan), dict(vector=None),
                   dict(filter=pb.Filter(metadata=[pb.MetadataCondition(key="a", op=99)])),
                   dict(filter=pb.Filter(metadata=[pb.MetadataCondition(key="a", op=pb.EQ, values_json=["{"])])),
                   dict(filter=pb.Filter(metadata=[pb.MetadataCondition(key="a", op=pb.EQ, values_json=["[]"])])),
                   *(dict(filter=pb.Filter(metadata=[pb.MetadataCondition(key="a", op=pb.LT, values_json=[word])]))
                     for word in ("NaN", "Infinity", "1e999")),
                   dict(filter=pb.Filter(from_s=math.nan))):  # fmt: skip
        failed = await refused(whole.recall("vectors", **{"vector": ONE, **fields}))
        assert failed.status == "INVALID_ARGUMENT", fields
        assert failed.code in ("SFM-MEM-005", "SFM-MEM-011", "SFM-MEM-014"), fields


async def test_bad_namespaces(whole):
    for fields in (dict(name="Notes", dim=8), dict(name="", dim=8), dict(name="a" * 64, dim=8), dict(name="n", dim=7),
                   dict(name="n", dim=4097), dict(name="n"), dict(name="n", embedder="nobody"),
                   dict(name="n", dim=8, half_lives={"a": 0.0}), dict(name="n", dim=8, half_lives={"a": math.nan}),
                   dict(name="n", dim=8, features={"f": 1.5}), dict(name="n", dim=8, features={"f": -0.5}),
                   dict(name="n", dim=8, beta=0.0), dict(name="n", dim=8, alpha=math.inf),
                   dict(name="n", dim=8, default_half_life="b")):  # fmt: skip
        failed = await refused(whole.create_namespace(**fields))
        assert failed.status in ("INVALID_ARGUMENT", "FAILED_PRECONDITION"), (fields, failed)
        assert failed.code.startswith("SFM-MEM-0"), fields
    failed = await refused(whole.create_namespace("vectors", dim=16))
    assert (failed.status, failed.code) == ("ALREADY_EXISTS", "SFM-MEM-020")
    assert {n.name for n in (await whole.list_namespaces()).namespaces} == {"vectors", "texts"}


async def test_a_duplicate_id_with_other_content_is_a_conflict_and_changes_nothing(client):
    first = await client.call(store_input("vectors", memory(id="a", idempotency_key="k")))
    failed = await refused(client.call(store_input("vectors", memory(id="a", payload=b"[1]"))))
    assert (failed.status, failed.code) == ("ALREADY_EXISTS", "SFM-MEM-009")
    failed = await refused(client.call(store_input("vectors", memory(id="b", idempotency_key="k", vector=OTHER))))
    assert (failed.status, failed.code) == ("ALREADY_EXISTS", "SFM-MEM-009")
    again = await client.call(store_input("vectors", memory(id="a", idempotency_key="k")))
    assert (again.outcome, again.seq, again.version) == (pb.DUPLICATE, first.seq, first.version)
    assert (await client.get("vectors", "a")).payload == b"{}"


async def test_in_a_batch_each_item_has_its_outcome_and_the_good_ones_are_stored(client):
    names = [*BAD_MEMORIES, "good"]
    items = [memory(id="before"), *(memory(**changed) for changed, _, _ in BAD_MEMORIES.values()), memory(id="after")]
    outcomes = [o async for o in client.store_many("vectors", items)]
    assert [o.index for o in outcomes] == list(range(len(items)))
    assert [outcomes[0].result.outcome, outcomes[-1].result.outcome] == [pb.CREATED, pb.CREATED]
    found = {name: (o.error.grpc_status, o.error.code) for name, o in zip(names, outcomes[1:-1], strict=False)}
    assert found == {name: (status, code) for name, (_, status, code) in BAD_MEMORIES.items()}
    assert {o.result.outcome for o in outcomes[1:-1]} <= {pb.REJECTED, pb.CONFLICT}
    assert sorted([m.id async for m in client.list("vectors")]) == ["after", "before"]


async def test_a_batch_of_recalls_answers_each(client):
    await client.call(store_input("vectors", memory(id="a")))
    good, bad = recall_request("vectors", vector=ONE), recall_request("vectors", vector=NAN)
    broken = recall_request("vectors", vector=ONE, as_of_seq=2**64 - 1)
    reply = await client.recall_batch([good, bad, broken, good])
    assert [bool(i.reply.hits) for i in reply.items] == [True, False, False, True]
    assert [i.error.code for i in reply.items] == ["", "SFM-MEM-002", "SFM-MEM-016", ""]


async def test_a_receipt_that_is_not_the_requests_is_refused(client):
    await client.call(store_input("vectors", memory(id="a")))
    asked = recall_request("vectors", vector=ONE, receipt=True)
    receipt = (await client.call(Unary("Recall", asked, pb.RecallReply, True))).receipt
    assert (await client.replay(receipt, asked)).identical
    failed = await refused(client.replay(receipt, recall_request("vectors", vector=OTHER, receipt=True)))
    assert (failed.status, failed.code) == ("FAILED_PRECONDITION", "SFM-MEM-017")


async def test_a_bad_page_token_is_refused(client):
    assert (await refused(client.list_page("vectors", page_token="not a token"))).status == "INVALID_ARGUMENT"
    assert (await refused(client.list_page("vectors", page_size=100_000))).status == "INVALID_ARGUMENT"


async def test_a_half_finished_upload_stores_at_most_what_was_sent_and_harms_nobody(client):
    def broken():
        yield memory(id="sent")
        raise ConnectionError("the caller dies here")

    with pytest.raises(ConnectionError):
        await client.import_many("vectors", broken())
    assert {m.id async for m in client.list("vectors")} <= {"sent"}
    assert (await client.call(store_input("vectors", memory(id="after")))).outcome == pb.CREATED


async def test_a_reply_over_the_bound_says_what_to_ask_instead(client):
    body = json.dumps("a" * 900_000).encode()
    for n in range(20):
        await client.call(store_input("vectors", memory(id=f"m{n}", payload=body)))
    failed = await refused(client.recall("vectors", vector=ONE, k=20))
    assert (failed.status, failed.code) == ("INVALID_ARGUMENT", "SFM-MEM-005")
    assert "max_bytes" in failed.message
    cut = await client.recall("vectors", vector=ONE, k=20, max_bytes=2_000_000)
    assert (len(cut.hits), cut.truncated) == (2, True)
    assert len([m.id async for m in client.list("vectors", omit_payload=True)]) == 20
    assert sum([len(r.memories) async for r in client.export("vectors")]) == 20
