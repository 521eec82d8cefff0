"""The reading client cannot write: every other method and every acting path is stopped before it leaves this process.

A real HTTP server stands where the API server would, and counts what reaches it.
"""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from playbook.kube import Reader, Writer, WriteRefused, configuration, guard
from playbook.trouble import Trouble, Unknown
from testing.api import Api, serving


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path / "kubeconfig", "kind-soma", "other") as server:
        yield server


@pytest.fixture
def reader(api: Api, tmp_path: Path) -> Iterator[Reader]:
    made = Reader("kind-soma", tmp_path / "kubeconfig")
    yield made
    made.close()


def test_a_reader_reads(api: Api, reader: Reader) -> None:
    api.answer = (200, {"items": [{"metadata": {"name": "a"}}], "metadata": {}})
    assert [item["metadata"]["name"] for item in reader.items("/api/v1/pods")] == ["a"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_reader_cannot_be_made_to_write(api: Api, reader: Reader, method: str) -> None:
    with pytest.raises(WriteRefused):
        reader._send(method, "/api/v1/namespaces/soma-infra", None, {})
    assert api.asked == []


@pytest.mark.parametrize("verb", ["exec", "attach", "portforward", "proxy"])
def test_a_reader_cannot_be_made_to_act_by_a_read(api: Api, reader: Reader, verb: str) -> None:
    with pytest.raises(WriteRefused):
        reader.get(f"/api/v1/namespaces/soma-infra/pods/a/{verb}")
    assert api.asked == []


def test_a_pod_called_exec_can_be_read_no_more_than_the_verb_but_its_namespace_can() -> None:
    guard("GET", "https://host/api/v1/namespaces/executive/pods")
    with pytest.raises(WriteRefused):
        guard("GET", "https://host/api/v1/namespaces/a/pods/b/exec?command=rm")


def test_a_reader_has_no_method_that_writes() -> None:
    writes = {"apply", "create", "merge", "put", "delete"}
    assert not writes & set(dir(Reader))
    assert writes <= set(dir(Writer))


def test_a_writer_applies_on_the_server_side(api: Api, reader: Reader) -> None:
    writer = Writer("kind-soma", reader.kubeconfig)
    writer.apply("/api/v1/namespaces/n", {"kind": "Namespace"})
    writer.close()
    method, path, body = api.asked[0]
    assert (method, json.loads(body)) == ("PATCH", {"kind": "Namespace"})
    assert "fieldManager=sfmctl" in path


def test_absent_is_none_and_forbidden_is_not_absent(api: Api, reader: Reader) -> None:
    api.answer = (404, {"message": "not found"})
    assert reader.get("/api/v1/namespaces/n") is None
    api.answer = (403, {"message": "nobody cannot get namespaces"})
    with pytest.raises(Unknown) as caught:
        reader.get("/api/v1/namespaces/n")
    assert (caught.value.code, caught.value.why) == ("SFM-K8S-003", "nobody cannot get namespaces")


@pytest.mark.parametrize(("status", "code"), [(500, "SFM-K8S-001"), (429, "SFM-K8S-001"), (422, "SFM-K8S-004")])
def test_each_kind_of_answer_has_its_code(api: Api, reader: Reader, status: int, code: str) -> None:
    api.answer = (status, {"message": "so it is"})
    with pytest.raises(Trouble) as caught:
        reader.get("/api/v1/namespaces/n")
    assert caught.value.code == code


@pytest.mark.parametrize("body", [b"<html>Log in first</html>", b'["a", "list"]', b"\xff\xfe"])
def test_an_answer_that_is_no_object_comes_from_no_api_server(api: Api, reader: Reader, body: bytes) -> None:
    api.answer = (200, body)
    with pytest.raises(Unknown) as caught:
        reader.get("/api/v1/namespaces/n")
    assert (caught.value.code, "no API server" in caught.value.what) == ("SFM-K8S-001", True)


@pytest.mark.parametrize("text", [b"contexts: [", b"only words", b"- a list", b"\x00\xff\xfe", b"contexts: 7"])
def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config").write_bytes(text)
    with pytest.raises(Unknown) as caught:
        configuration("kind-soma", tmp_path / "config")
    assert caught.value.code in ("SFM-K8S-018", "SFM-K8S-002")
    assert str(tmp_path / "config") in caught.value.what + caught.value.why
    assert "Error" not in caught.value.why  # the words are for people, not the library's own


def test_nobody_there_is_unknown(tmp_path: Path, api: Api) -> None:
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "gone").write_text(yaml.safe_dump(config))
    made = Reader("kind-soma", tmp_path / "gone")
    with pytest.raises(Unknown) as caught:
        made.version()
    made.close()
    assert caught.value.code == "SFM-K8S-001"


def test_threads_that_load_one_context_at_once_all_get_its_whole_certificate(tmp_path: Path) -> None:
    authority = b"-----BEGIN CERTIFICATE-----\n" + b"A" * 2_000_000 + b"\n-----END CERTIFICATE-----\n"
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": base64.b64encode(authority).decode()}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "a", "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(json.dumps(config))

    def size(_: int) -> int:
        return Path(configuration("a", tmp_path / "kubeconfig").ssl_ca_cert).stat().st_size

    with ThreadPoolExecutor(max_workers=8) as pool:
        assert set(pool.map(size, range(8))) == {len(authority)}


def test_a_context_that_is_not_there_is_unknown_whatever_the_current_one_is(api: Api, tmp_path: Path) -> None:
    with pytest.raises(Unknown) as caught:
        Reader("kind-nobody", tmp_path / "kubeconfig")
    assert caught.value.code == "SFM-K8S-002"
