"""OPA: its policies by their own tests, and the server as the chart starts it."""

import json
import shutil
import socket
import subprocess
import time
from http.client import HTTPConnection

import pytest

from testing.charts import HELM, containers


@pytest.fixture(scope="module")
def opa():
    if shutil.which("opa") is None:
        pytest.skip("opa is not installed: policies and server were NOT tried (https://www.openpolicyagent.org)")


@pytest.mark.usefixtures("opa")
def test_the_policies_say_what_their_tests_say():
    done = subprocess.run(["opa", "test", str(HELM / "components/opa/files/policies")], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS: 14/14" in done.stdout


@pytest.mark.usefixtures("opa")
def test_whoever_reaches_opa_can_ask_and_change_nothing(charts, tmp_path):
    """The server, started with the chart's own command and policies."""
    rendered = charts.render("dev")
    command = next(c["command"] for _, c in containers(rendered) if c["name"] == "opa")
    held = next(
        o["data"] for o in rendered if o["kind"] == "ConfigMap" and o["metadata"]["name"].endswith("opa-policies")
    )
    (tmp_path / "policies").mkdir()
    for name, text in held.items():
        (tmp_path / "policies" / name).write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        api, diagnostic = (f"127.0.0.1:{s.getsockname()[1]}" for s in (one, other))
    changed = {"/opa": "opa", "--addr=0.0.0.0:8181": f"--addr={api}", "/policies": str(tmp_path / "policies"),
               "--diagnostic-addr=0.0.0.0:8282": f"--diagnostic-addr={diagnostic}"}  # fmt: skip

    def asked(method, path, body=b"", at=api):
        link = HTTPConnection(at, timeout=10)
        try:
            link.request(method, path, body)
            answer = link.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            link.close()

    question = json.dumps({"input": {"principal": "a", "namespace": "n", "verb": "recall",
                                     "grants": [{"namespaces": ["n"], "verbs": ["recall"]}]}}).encode()  # fmt: skip
    with subprocess.Popen([changed.get(word, word) for word in command], stderr=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + 30
            while asked("GET", "/health?bundles&plugins", at=diagnostic)[0] != 200 and time.monotonic() < end:
                time.sleep(0.1)
            assert asked("GET", "/health?bundles&plugins")[0] == 200
            assert json.loads(asked("POST", "/v1/data/soma/memory/allow", question)[1])["result"] is True
            evil = b"package soma.memory\n\nallow := true"
            for method, path, body in [
                ("PUT", "/v1/policies/evil", evil), ("DELETE", "/v1/policies/memory.rego", b""),
                ("GET", "/v1/policies", b""), ("PUT", "/v1/data/suspended", b"{}"),
                ("PATCH", "/v1/data/suspended", b"[]"), ("POST", "/v1/query", b'{"query": "true"}'),
                ("POST", "/v1/compile", b'{"query": "true"}'), ("GET", "/v1/config", b""),
            ]:  # fmt: skip
                assert asked(method, path, body)[0] == 401, f"{method} {path}"
            denied = json.dumps({"input": {}}).encode()
            assert json.loads(asked("POST", "/v1/data/soma/memory/allow", denied)[1])["result"] is False
        finally:
            server.terminate()
