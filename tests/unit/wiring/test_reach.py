"""From what the chart publishes to the authority that an application is told to trust."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from playbook.kube import Reader
from playbook.target import Target
from playbook.trouble import Unknown
from playbook.wiring import objects
from playbook.wiring.application import application
from playbook.wiring.reach import Reach
from playbook.wiring.secrets import dsn
from testing.api import serving
from tests.unit.wiring.conftest import STAGING

APP = application("shop", "staging")
INFRA = "/api/v1/namespaces/soma-infra"
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
BESIDE = {"CA_SECRET": "sharedinfra-vault-tls"}
OWN = {"CA_CONFIGMAP": "sharedinfra-ca", **BESIDE}


@pytest.fixture
def infra(tmp_path):
    """What the chart published, put on a server by a test; and the reach of it."""
    with serving(tmp_path / "kubeconfig", "prod-eu") as api:
        reader = Reader("prod-eu", tmp_path / "kubeconfig")

        def published(names, **kept):
            api.put(f"{INFRA}/configmaps", {"metadata": {"name": "sharedinfra-endpoints"}, "data": STAGING | names})
            for collection, (name, data) in kept.items():
                api.put(f"{INFRA}/{collection}", {"metadata": {"name": name}, "data": data})
            return Reach(Target(context="prod-eu", app=APP), reader)

        yield published
        reader.close()


@pytest.mark.parametrize(
    ("names", "kept"),
    [(OWN, {"configmaps": ("sharedinfra-ca", {"ca.crt": PEM})}),
     (BESIDE, {"secrets": ("sharedinfra-vault-tls", {"ca.crt": base64.b64encode(PEM.encode()).decode()})})],
    ids=["the chart's own authority", "cert-manager's or one that was brought along"],
)  # fmt: skip
def test_the_authority_reaches_the_application_whoever_made_it(infra, names, kept):
    at = infra(names, **kept).endpoints()
    assert at.ca == PEM
    made = {one["metadata"]["name"]: one["data"] for one in objects.settings(APP, at)}
    assert made["sharedinfra-ca"] == {"ca.crt": PEM}
    assert base64.b64decode(objects.store(APP, at, "v1")["spec"]["provider"]["vault"]["caBundle"]).decode() == PEM
    assert parse_qs(urlsplit(dsn(APP, at, "x")).query)["sslrootcert"] == ["/etc/soma-infra/ca.crt"]


@pytest.mark.parametrize("names", [OWN, BESIDE])
def test_an_authority_that_is_named_and_not_there_is_not_taken_for_none(infra, names):
    with pytest.raises(Unknown) as caught:
        infra(names).endpoints()
    assert caught.value.code == "SFM-APP-016"
