"""Who may call what: every method of the descriptor, against missing, wrong and insufficient tokens."""

import asyncio

import pytest

from sfmd.auth import LOOK_EVERY_S, VERBS
from sfmd.rpc.failure import CallFailed
from sfmd.rpc.rules import RULES
from testing.calls import METHODS, REQUESTS, RawChannel
from testing.rpc import serve

NAMED = sorted(set(METHODS) - {"ListNamespaces"})


def test_every_method_of_the_descriptor_has_a_rule_and_a_request_here():
    assert set(RULES) == set(METHODS)
    assert set(REQUESTS) == set(METHODS)
    assert {rule.verb for rule in RULES.values()} == set(VERBS)


@pytest.fixture
async def served(tmp_path):
    async with serve(tmp_path) as running:
        yield running


async def outcomes(profile, namespace="notes", *, token=None):
    async with RawChannel(profile, token) as raw:
        return {m: await raw.outcome(m, [REQUESTS[m](namespace).SerializeToString()]) for m in sorted(METHODS)}


def codes(found):
    return {m: o.code if isinstance(o, CallFailed) else "OK" for m, o in found.items()}


async def test_without_a_token_nothing_is_answered(served):
    assert codes(await outcomes(served.profile(), token="")) == dict.fromkeys(METHODS, "SFM-MEM-021")


async def test_an_unknown_token_opens_nothing(served):
    wrong = "sfm_000000000000_" + "A" * 43
    found = await outcomes(served.profile(), token=wrong)
    assert codes(found) == dict.fromkeys(METHODS, "SFM-MEM-021")
    assert all(o.status == "UNAUTHENTICATED" and wrong not in o.message for o in found.values())


async def test_an_expired_and_a_revoked_token_open_nothing(served):
    expired = served.profile(lifetime_s=1e-6)
    assert codes(await outcomes(expired)) == dict.fromkeys(METHODS, "SFM-MEM-021")
    good = served.profile()
    assert codes(await outcomes(good))["Get"] != "SFM-MEM-021"
    served.tokens.revoke("tester")
    await asyncio.sleep(LOOK_EVERY_S)
    assert codes(await outcomes(good)) == dict.fromkeys(METHODS, "SFM-MEM-021")


@pytest.mark.parametrize("verb", VERBS)
async def test_each_verb_opens_its_own_methods_and_no_other(served, verb):
    found = codes(await outcomes(served.profile(verbs=(verb,))))
    assert {m for m, c in found.items() if c == "SFM-MEM-022"} == {m for m, r in RULES.items() if r.verb != verb}


async def test_another_namespace_is_denied_for_every_method_that_names_one(served):
    found = codes(await outcomes(served.profile(namespaces=("mine", "team-*")), "notes"))
    assert {m for m, c in found.items() if c == "SFM-MEM-022"} == set(NAMED)


async def test_the_namespaces_of_the_grant_are_not_denied(served):
    for namespace in ("mine", "team-a"):
        found = codes(await outcomes(served.profile(namespaces=("mine", "team-*")), namespace))
        assert "SFM-MEM-022" not in found.values()


async def test_an_empty_namespace_needs_a_grant_for_all(served):
    found = codes(await outcomes(served.profile(namespaces=("team-*",)), ""))
    assert {m for m, c in found.items() if c == "SFM-MEM-022"} == set(NAMED) - {"Stats"}


async def test_one_foreign_namespace_in_a_batch_denies_the_batch(served):
    request = REQUESTS["RecallBatch"]("mine")
    request.requests.append(REQUESTS["Recall"]("theirs"))
    async with RawChannel(served.profile(namespaces=("mine",))) as raw:
        assert (await raw.outcome("RecallBatch", [request.SerializeToString()])).code == "SFM-MEM-022"


async def test_a_receipt_of_a_foreign_namespace_is_denied(served):
    request = REQUESTS["Replay"]("mine")
    request.receipt.namespace = "theirs"
    async with RawChannel(served.profile(namespaces=("mine",))) as raw:
        assert (await raw.outcome("Replay", [request.SerializeToString()])).code == "SFM-MEM-022"


async def test_an_unknown_method_is_denied_and_health_is_open(served):
    async with RawChannel(served.profile()) as raw:
        assert (await raw.outcome("/soma.memory.v1.MemoryService/Nothing", [b""])).code == "SFM-MEM-022"
        assert (await raw.outcome("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", [])).status in (
            "UNIMPLEMENTED",)  # fmt: skip
    async with RawChannel(served.profile(), "") as raw:
        assert await raw.send("/grpc.health.v1.Health/Check", [b""]) == [b"\x08\x01"]
        assert (await raw.outcome("/soma.memory.v1.MemoryService/Nothing", [b""])).code == "SFM-MEM-021"


async def test_reflection_answers_only_with_its_flag_and_a_token(tmp_path):
    ask = [b"\x3a\x00"]  # list_services: ""
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    async with serve(tmp_path, reflection=True) as served:
        async with RawChannel(served.profile(verbs=("read",))) as raw:
            assert b"soma.memory.v1.MemoryService" in (await raw.send(path, ask))[0]
        async with RawChannel(served.profile(), "") as raw:
            assert (await raw.outcome(path, ask)).code == "SFM-MEM-021"
