"""The objects of a wire-up, and what counts as a difference in those that are there."""

import copy

import pytest

from playbook.trouble import Trouble
from playbook.wiring import objects
from playbook.wiring.application import application
from playbook.wiring.endpoints import Endpoints

APP = application("shop", "dev", "retail")


def test_the_store_is_the_applications_own(dev, staging):
    store = objects.store(APP, dev, "v1beta1")
    assert (store["kind"], store["metadata"]["namespace"]) == ("SecretStore", "retail")
    login = store["spec"]["provider"]["vault"]["auth"]["kubernetes"]
    assert login["role"] == "shop"
    assert login["serviceAccountRef"] == {"name": "shop-sa", "audiences": ["vault"]}
    assert "caBundle" not in store["spec"]["provider"]["vault"]
    assert objects.store(APP, staging, "v1")["spec"]["provider"]["vault"]["caBundle"]
    assert objects.path(store) == "/apis/external-secrets.io/v1beta1/namespaces/retail/secretstores/soma-infra-vault"


def test_the_external_secret_reads_its_own_path_key_by_key():
    made = objects.external_secret(APP, "v1beta1")["spec"]
    assert made["refreshInterval"] == "1h" and made["target"]["name"] == "shop-runtime"
    assert {d["secretKey"] for d in made["data"]} == {
        "POSTGRES_PASSWORD", "POSTGRES_DSN", "REDIS_PASSWORD", "KAFKA_SASL_PASSWORD",
    }  # fmt: skip
    assert {d["remoteRef"]["key"] for d in made["data"]} == {"shared-infra/shop/dev"}


def test_the_settings_hold_no_secret_and_what_the_contract_names(dev):
    own, endpoints = objects.settings(APP, dev)
    assert {"POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS",
            "OPA_URL", "VAULT_ADDR", "VAULT_ROLE"} <= set(own["data"])  # fmt: skip
    assert not [key for key in own["data"] if "PASSWORD" in key or "DSN" in key]
    assert endpoints["metadata"]["name"] == "sharedinfra-endpoints" and endpoints["data"] == dict(dev.values)


def test_with_tls_the_authority_comes_along(staging):
    assert objects.settings(APP, staging)[-1]["data"] == {"ca.crt": staging.ca}


def test_what_others_add_is_no_difference_and_what_they_change_is(dev):
    wanted = objects.store(APP, dev, "v1beta1")
    there = copy.deepcopy(wanted)
    there["metadata"] |= {"uid": "x", "resourceVersion": "7"}
    there["status"] = {"conditions": []}
    assert objects.contradicted(wanted, there) == []
    there["spec"]["provider"]["vault"]["auth"]["kubernetes"]["role"] = "other"
    assert objects.contradicted(wanted, there) == [
        "SecretStore soma-infra-vault differs in spec.provider.vault.auth.kubernetes.role"
    ]
    assert objects.contradicted(wanted, None) == ["SecretStore soma-infra-vault is absent"]


def test_a_key_too_many_in_a_settings_map_is_told_without_its_value(dev):
    own = objects.settings(APP, dev)[0]
    there = copy.deepcopy(own)
    there["data"]["POSTGRES_PASSWORD"] = "hunter2"
    (words,) = objects.contradicted(own, there)
    assert "POSTGRES_PASSWORD" in words and "hunter2" not in words


def test_what_is_not_published_is_named():
    with pytest.raises(Trouble) as absent:
        objects.settings(APP, Endpoints({}, "soma-infra"))
    assert absent.value.code == "SFM-APP-004" and "POSTGRES_HOST" in absent.value.what


def test_only_services_of_the_infra_namespace_are_tunnelled_to(dev):
    assert dev.service("sharedinfra-vault.soma-infra.svc.cluster.local") == "sharedinfra-vault"
    assert dev.service("db.example.org") == "" and dev.service("db.other.svc.cluster.local") == ""
