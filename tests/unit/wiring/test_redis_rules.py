"""A user that a node lets do more, or less, than its line says is told, however that node words its rules."""

import base64

import pytest

from playbook.kube import Reader
from playbook.target import Target
from playbook.wiring import redis, redis_rules
from playbook.wiring.access import redis_user
from playbook.wiring.application import application
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.reach import Reach
from testing.api import serving as serving_api
from testing.resp import serving
from tests.unit.wiring.conftest import DEV

APP = application("shop", "dev")
LINE = redis_user(APP, "x")
HEAD = f"user shop on sanitize-payload {LINE.split()[3]} ~shop:* resetchannels &shop:* "
KEPT = HEAD + " ".join(LINE.split()[7:])
"""As a server from 7.2 on tells it."""
REWORDED = HEAD + (
    "+@all -@dangerous -@scripting -scan +eval +evalsha_ro -dbsize -function +fcall +eval_ro +fcall_ro +evalsha "
    "-pubsub +script|load +script|exists +script|debug +script|help -randomkey"
)
"""As Redis 7.0.15 tells it."""
HAS = {
    name: frozenset(commands.split())
    for name, commands in {
        "fast": "dbsize get",
        "slow": "acl acl|list config config|get config|set eval eval_ro evalsha evalsha_ro fcall fcall_ro flushall "
        "function function|load keys pubsub pubsub|channels randomkey scan script script|debug script|exists "
        "script|flush script|help script|kill script|load",
        "admin": "acl|list config|get config|set",
        "dangerous": "acl|list config|get config|set flushall keys",
        "scripting": "eval eval_ro evalsha evalsha_ro fcall fcall_ro function|load script|debug script|exists "
        "script|flush script|help script|kill script|load",
    }.items()
}
"""A part of what Redis 7.0.15 lists."""


@pytest.mark.parametrize("live", [KEPT, REWORDED])
def test_a_user_as_it_was_set_is_well_in_the_words_of_each_version(live):
    assert redis_rules.categories(LINE, live) <= set(HAS)
    assert redis_rules.differences(LINE, live, HAS) == []


@pytest.mark.parametrize("before", [KEPT, REWORDED])
@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ("~shop:*", "~*", ["has ~*", "lacks ~shop:*"]),
        ("~shop:*", "~shop:* %R~other:*", ["has %R~other:*"]),
        ("resetchannels &shop:*", "&*", ["has &*", "lacks &shop:*"]),
        (" on ", " off ", ["has off", "lacks on"]),
        (LINE.split()[3], "#" + "0" * 64, ["has another password"]),
        (LINE.split()[3], "nopass", ["has another password", "has nopass"]),
        ("-dbsize", "-dbsize +config|get", ["may run config|get"]),
        ("-scan ", "", ["may run scan"]),
        ("-dbsize", "-dbsize -get", ["may not run get"]),
    ],
)  # fmt: skip
def test_what_was_changed_on_a_node_is_told_without_any_digest(before, was, now, words):
    assert was in before
    assert redis_rules.differences(LINE, before.replace(was, now), HAS) == words


def test_a_user_that_may_run_everything_is_told_and_a_further_set_of_rules_too():
    [words] = redis_rules.differences(LINE, f"{HEAD}+@all", HAS)
    assert words == "may run acl|list, config|get, config|set, dbsize and 10 more"
    assert redis_rules.differences(LINE, f"{KEPT} (~* resetchannels -@all +get)", HAS) == ["has rules besides ours"]


@pytest.fixture
def wanting(tmp_path, monkeypatch):
    """What is wanting of the user where one node says `live` of it, and its line is in the Secret."""
    monkeypatch.setenv("SFM_REDIS_ADMIN_PASSWORD", "infra")
    kubeconfig = tmp_path / "kubeconfig"

    def ask(live):
        answers = {"ACL LIST": ["user default off", *live], **{f"ACL CAT {k}": sorted(v) for k, v in HAS.items()}}
        with serving_api(kubeconfig, "prod-eu") as api, serving(answers) as node:
            line = base64.b64encode(f"{LINE}\n".encode()).decode()
            users = {"metadata": {"name": "sharedinfra-redis-users"}, "data": {"shop.acl": line}}
            api.put("/api/v1/namespaces/soma-infra/secrets", users)
            names = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(node.port), "REDIS_URL": "redis://127.0.0.1"}
            aim = Target(context="prod-eu", kubeconfig=kubeconfig, app=APP)
            reader = Reader(aim.context, aim.kubeconfig)
            try:
                found = redis.wanting(Reach(aim, reader), Endpoints(DEV | names, "soma-infra"), "x")
            finally:
                reader.close()
            assert "ACL LIST" in node.said
            return found

    return ask


def test_a_user_that_was_loosened_on_a_node_is_wanting_and_one_as_set_is_not(wanting):
    assert wanting([KEPT]) == []
    assert wanting([KEPT.replace("~shop:*", "~*")]) == ["Redis: user shop has ~*", "Redis: user shop lacks ~shop:*"]
    assert wanting([KEPT.replace("user shop ", "user shop2 ")]) == ["Redis: user shop is absent"]
