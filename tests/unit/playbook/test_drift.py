"""A release beside what lives: what counts as an edit by hand, what does not, and the patch that puts it back."""

import copy
import json
from typing import Any

import pytest

from playbook.actions.drift import Pair, differences, edited, missing, patch, writers

KEPT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "opa", "labels": {"app": "opa"}, "creationTimestamp": None},
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {},
                "volumes": None,
                "containers": [
                    {
                        "name": "opa",
                        "image": "opa:1",
                        "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}},
                        "env": [{"name": "HOME", "value": "/home/opa"}],
                        "args": ["run"],
                    }
                ],
            }
        },
    },
}


def living() -> dict[str, Any]:
    """The object as the API server gives it back: with defaults, in its own spelling, and with a controller's words."""
    live = copy.deepcopy(KEPT)
    live["metadata"] |= {"uid": "u", "annotations": {"deployment.kubernetes.io/revision": "3"}}
    pod = live["spec"]["template"]["spec"]
    del pod["securityContext"], pod["automountServiceAccountToken"], pod["volumes"]
    pod["dnsPolicy"] = "ClusterFirst"
    pod["containers"][0]["resources"] = {"limits": {"cpu": "1000m", "memory": "1Gi"}}
    pod["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    live["status"] = {"replicas": 7}
    return live


def container(live: dict[str, Any]) -> dict[str, Any]:
    return live["spec"]["template"]["spec"]["containers"][0]


def merged(into: dict[str, Any], with_: dict[str, Any]) -> dict[str, Any]:
    """A JSON merge patch as RFC 7396 has it."""
    for key, value in with_.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            into[key] = merged(into.get(key) if isinstance(into.get(key), dict) else {}, value)
        else:
            into[key] = value
    return into


def test_what_the_server_adds_or_spells_otherwise_is_no_edit() -> None:
    assert differences(KEPT, living()) == []


EDITS = [
    (lambda o: o["spec"].update(replicas=3), "spec.replicas is 3, the release has 1"),
    (lambda o: container(o).update(image="opa:2"), "containers[opa].image is opa:2, the release has opa:1"),
    (lambda o: container(o)["env"].append({"name": "X", "value": "hush"}), "env has 2 entries, the release has 1"),
    (lambda o: container(o)["env"][0].update(value="hush"), "containers[opa].env[HOME].value was changed"),
    (lambda o: container(o)["args"].__setitem__(0, "hush"), "containers[opa].args[0] was changed"),
    (lambda o: container(o).pop("env"), "containers[opa].env is gone"),
    (lambda o: container(o)["resources"]["limits"].update(memory="2Gi"), "resources.limits.memory was changed"),
    (lambda o: o["metadata"].update(labels={}), "metadata.labels.app is gone"),
]


@pytest.mark.parametrize(("edit", "words"), EDITS, ids=[words for _, words in EDITS])
def test_an_edit_is_named_without_its_value_and_put_back(edit: Any, words: str) -> None:
    live = living()
    edit(live)
    found = differences(KEPT, live)
    assert next(str(one) for one in found).endswith(words)
    assert len(found) == 1
    assert "hush" not in str(found[0])
    assert differences(KEPT, merged(live, patch(KEPT, found))) == []


def test_a_configuration_is_compared_key_by_key_and_word_by_word() -> None:
    kept = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"PORT": "1", "empty": "", "same": "a"}}
    live = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"PORT": "1000m", "same": "a", "new": "hush"}}
    found = differences(kept, live)
    assert [str(one) for one in found] == ["data.PORT was changed", "data.new was added"]
    assert merged(live, patch(kept, found))["data"] == {"PORT": "1", "same": "a"}


def test_a_secret_must_have_its_keys_and_its_values_are_nobodys_business() -> None:
    kept = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "YQ=="}, "stringData": {"user": "b"}}
    live = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "Yg=="}}
    assert [str(one) for one in differences(kept, live)] == ["data.user is gone"]
    assert "Yg==" not in json.dumps([str(one) for one in differences(kept, live)])


def test_what_is_gone_is_told_apart_from_what_was_edited() -> None:
    scaled = living()
    scaled["spec"]["replicas"] = 2
    found = [Pair(KEPT, "/a", None), Pair(KEPT, "/b", scaled), Pair(KEPT, "/c", living())]
    assert missing(found) == ["Deployment opa"]
    assert edited(found) == ["Deployment opa: spec.replicas is 2, the release has 1"]


def written(**by: dict[str, Any]) -> list[dict[str, Any]]:
    """managedFields with what each manager wrote."""
    return [
        {"manager": name.replace("_", "-"), "operation": "Update", "fieldsV1": fields} for name, fields in by.items()
    ]


REPLICAS = {"f:spec": {"f:replicas": {}}}
ENV = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"opa"}': {"f:env": {}}}}}}}


@pytest.mark.parametrize(
    ("by", "told"),
    [
        ({"helm": REPLICAS}, False),  # an admission rewrote what helm sent
        ({"kube_controller_manager": REPLICAS, "helm": ENV}, False),  # an autoscaler
        ({"sfmctl": REPLICAS}, False),
        ({"kubectl": REPLICAS, "helm": ENV}, True),
        ({"helm": ENV}, True),  # nobody is known to have written it
        ({}, True),
    ],
)
def test_who_wrote_a_field_decides_whether_it_is_an_edit(by: dict[str, Any], told: bool) -> None:
    live = living()
    live["spec"]["replicas"] = 2
    live["metadata"]["managedFields"] = written(**by)
    assert bool(edited([Pair(KEPT, "/a", live)])) is told


def test_an_entry_that_was_taken_out_is_an_edit_and_one_that_the_cluster_adds_is_none() -> None:
    live = living()
    live["metadata"]["managedFields"] = written(helm=ENV)
    container(live)["env"].append({"name": "INJECTED", "value": "x"})
    assert edited([Pair(KEPT, "/a", live)]) == []
    container(live)["env"].clear()
    assert edited([Pair(KEPT, "/a", live)])


def test_the_writers_of_a_list_s_entry_are_found_by_its_key() -> None:
    live = living()
    live["metadata"]["managedFields"] = [
        *written(helm=ENV),
        {"manager": "kubelet", "operation": "Update", "subresource": "status", "fieldsV1": ENV},
    ]
    assert writers(live, ("spec", "template", "spec", "containers", 0, "env")) == {"helm"}
    assert writers(live, ("spec", "template", "spec", "containers", 0, "env", 0, "value")) == {"helm"}
    assert writers(live, ("spec", "template", "spec", "containers", 0, "image")) == set()
