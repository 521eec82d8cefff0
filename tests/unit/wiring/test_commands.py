"""The commands about one application refuse what is not about this cluster."""

import json

import pytest

from sfmctl import app
from testing.api import serving
from tests.unit.wiring.conftest import DEV

CONFIG_MAPS = "/api/v1/namespaces/soma-infra/configmaps"


@pytest.fixture
def cluster(tmp_path):
    """A cluster in mode dev, as far as its endpoints tell; and its kubeconfig."""
    kubeconfig = tmp_path / "kubeconfig"
    with serving(kubeconfig, "prod-eu") as api:
        api.put(CONFIG_MAPS, {"metadata": {"name": "sharedinfra-endpoints"}, "data": DEV})
        yield api, kubeconfig


def test_topics_of_another_environment_than_the_clusters_are_not_planned(cluster, capsys):
    _, kubeconfig = cluster
    asked = ["topics", "plan", "shop", "--env", "prod", "--context", "prod-eu", "--kubeconfig", str(kubeconfig)]
    assert app.run([*asked, "-o", "json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["message"]) == ("SFM-APP-006", "the shared infrastructure here is dev, not prod")
