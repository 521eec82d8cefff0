"""An application's name is its place in every server: names that would be somebody else's are refused."""

import fnmatch

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from playbook.trouble import Trouble
from playbook.wiring.access import kafka_acls, policy, redis_user, role
from playbook.wiring.application import NAME, OURS, RESERVED, application
from playbook.wiring.probe_job import OTHER

NAMES = st.from_regex(NAME, fullmatch=True).filter(
    lambda n: n not in RESERVED and not n.startswith((*OURS, "kube-", "soma-infra", "external-secrets"))
)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Shop",
        "-shop",
        "shop-",
        "1shop",
        "shop.eu",
        "shop:eu",
        "shop*",
        "a" * 41,
        "shop/x",
        "pg-x",
        "sfmctl-verify",
        OTHER,
        *sorted(RESERVED),
    ],
)
def test_a_name_that_is_no_label_or_a_servers_own_is_refused(name):
    with pytest.raises(Trouble) as refused:
        application(name, "dev")
    assert refused.value.code == "SFM-APP-001"


def test_a_word_that_yaml_reads_as_no_text_is_no_name():
    for word in ("on", "off", "yes", "no", "true", "false", "null"):
        assert not isinstance(yaml.safe_load(f"name: {word}")["name"], str)
        assert word in RESERVED


@given(NAMES)
def test_a_name_stands_unquoted_in_yaml(name):
    assert yaml.safe_load(f"name: {name}") == {"name": name}


@pytest.mark.parametrize("namespace", ["kube-system", "soma-infra", "external-secrets", "default"])
def test_a_namespace_of_the_cluster_is_refused(namespace):
    with pytest.raises(Trouble) as refused:
        application("shop", "dev", namespace)
    assert refused.value.code == "SFM-APP-002"


def test_the_names_are_those_of_the_contract():
    app = application("shop", "staging")
    assert (app.namespace, app.account, app.secret_path) == ("shop", "shop-sa", "shared-infra/shop/staging")
    assert (app.runtime, app.external_secret, app.settings) == ("shop-runtime", "shop-secrets", "shop-settings")
    assert app.topics == ("shop.events", "shop.events.dlq")


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_no_application_is_let_in_by_anothers_rules(pair):
    mine, other = (application(name, "dev") for name in pair)
    keys, _, channels = redis_user(mine, "x").split()[4:7]
    assert not fnmatch.fnmatchcase(f"{other.name}:key", keys[1:])
    assert not fnmatch.fnmatchcase(f"{other.name}:key", channels[1:])
    for acl in kafka_acls(mine):
        for theirs in (*other.topics, f"{other.name}.group", other.name):
            matches = theirs == acl.name if acl.pattern == "LITERAL" else theirs.startswith(acl.name)
            assert not matches, f"{acl} covers {theirs}"
    assert f'secret/data/{other.secret_path}"' not in policy(mine)
    assert role(mine)["bound_service_account_namespaces"] != role(other)["bound_service_account_namespaces"]


def test_the_policy_reads_one_path_and_the_role_is_bound_for_a_day():
    app = application("shop", "prod")
    assert policy(app) == 'path "secret/data/shared-infra/shop/prod" {\n  capabilities = ["read"]\n}\n'
    bound = role(app)
    assert bound["audience"] == "vault"
    assert bound["token_ttl"] == bound["token_max_ttl"] == 86_400
    assert bound["bound_service_account_names"] == ["shop-sa"]


def test_a_redis_user_has_no_password_in_its_line_and_no_dangerous_command():
    line = redis_user(application("shop", "dev"), "correct horse")
    assert "correct" not in line and "\n" not in line
    assert "~shop:*" in line and "~*" not in line and "allkeys" not in line
    for denied in ("-@admin", "-@dangerous", "-scan", "-randomkey", "-dbsize"):
        assert line.index(denied) > line.index("+@all")
