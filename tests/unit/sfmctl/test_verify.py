"""`sfmctl verify` tells what it found, whatever else it cannot do."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sfmctl import app
from testing.api import serving


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A kubeconfig without any context."""
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config"}))
    return path


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    """A kubeconfig with the context `prod-eu`, whose API server does not listen."""
    path = tmp_path / "prod"
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "users": [{"name": "u", "user": {"token": "t"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "prod-eu", "context": {"cluster": "c", "user": "u"}}],
    }))  # fmt: skip
    return path


def verify(kubeconfig: Path, *arguments: str) -> int:
    return app.run(["verify", "--kubeconfig", str(kubeconfig), "--only", "namespace", *arguments])


def test_a_report_that_cannot_be_written_hides_neither_the_results_nor_their_code(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(nowhere, "--junit", str(tmp_path / "none" / "r.xml"), "-o", "short") == 5
    said = capsys.readouterr()
    assert [line.split("\t")[:2] for line in said.out.splitlines()] == [
        ["error", "cluster.api"], ["skip", "namespace.active"],
    ]  # fmt: skip
    assert "[SFM-CLI-029]" in said.err


def test_a_report_that_cannot_be_written_is_an_error_when_all_else_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    asked = ["verify", "--kubeconfig", str(kubeconfig), "--only", "cluster.api", "-o", "json"]
    with serving(kubeconfig, "kind-soma") as api:
        api.objects["/version"] = {"gitVersion": "v1.31.0"}
        assert app.run(asked) == 0
        capsys.readouterr()
        assert app.run([*asked, "--junit", str(tmp_path / "none" / "r.xml")]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["exitCode"], [c["status"] for c in found["checks"]]) == (2, ["pass"])
    assert "[SFM-CLI-029]" in said.err


def test_a_waiver_on_the_root_lets_the_rest_be_asked_and_one_for_no_check_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig, waivers = tmp_path / "kubeconfig", tmp_path / "waivers.yaml"
    asked = [
        "verify",
        "--kubeconfig",
        str(kubeconfig),
        "--only",
        "pods.restarts",
        "--waivers",
        str(waivers),
        "-o",
        "json",
    ]
    with serving(kubeconfig, "kind-soma") as api:
        api.objects["/version"] = {"gitVersion": "v1.31.0"}
        waivers.write_text("- {check: namespace.active, reason: it has no label yet, until: 2999-12-31}\n")
        assert app.run(asked) == 0
        found = {c["id"]: c["status"] for c in json.loads(capsys.readouterr().out)["checks"]}
        assert found == {"cluster.api": "pass", "namespace.active": "warn", "pods.restarts": "pass"}
        waivers.write_text("- {check: namespace.activ, reason: it has no label yet, until: 2999-12-31}\n")
        assert app.run(asked) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "SFM-CLI-030"
    assert error["why"].startswith("waiver 1: no check fits namespace.activ; there are cluster.api, ")


def test_a_bundle_that_cannot_be_written_hides_neither_the_results_nor_their_code(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert verify(nowhere, "--bundle-on-failure", str(tmp_path / "file" / "b"), "-o", "json") == 5
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["exitCode"], [c["status"] for c in found["checks"]]) == (5, ["error", "skip"])
    assert "[SFM-CLI-031]" in said.err


def test_a_bundle_without_a_cluster_holds_the_results_and_says_what_it_lacks(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = tmp_path / "bundle", tmp_path / "r.xml"
    assert verify(nowhere, "--bundle-on-failure", str(folder), "--junit", str(report), "-o", "json") == 5
    assert len(json.loads(capsys.readouterr().out)["checks"]) == 2
    assert [c["id"] for c in json.loads((folder / "checks.json").read_text())] == ["cluster.api", "namespace.active"]
    assert "kind-soma" in (folder / "not-gathered.txt").read_text()
    cases = ElementTree.fromstring(report.read_text()).iter("testcase")  # noqa: S314 - our own report
    assert [case.get("name") for case in cases] == ["cluster.api", "namespace.active"]


def test_what_stops_a_run_is_told_when_its_report_cannot_be_written_too(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(nowhere, "--skip", "namspace", "--junit", str(tmp_path / "none" / "r.xml")) == 2
    err = capsys.readouterr().err
    assert "[SFM-CLI-029]" in err and "[SFM-CLI-026]" in err


def test_a_cluster_that_is_not_kinds_is_never_answered_with_making_one(
    refused: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(refused, "--context", "prod-eu", "-o", "json") == 5
    hint = json.loads(capsys.readouterr().out)["checks"][0]["hint"]
    assert hint.startswith(f"SFM-K8S-001: kubectl --context prod-eu --kubeconfig {refused} get --raw '/livez?verbose' ")


@pytest.mark.parametrize(
    "command", [("topics", "plan", "shop"), ("status",), ("vault", "status"), ("app", "wire", "shop")]
)
def test_what_a_command_says_next_is_about_the_cluster_that_was_asked(
    refused: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    app.run([*command, "--context", "prod-eu", "--kubeconfig", str(refused), "-o", "json"])
    assert f"next: kubectl --context prod-eu --kubeconfig {refused} get --raw" in capsys.readouterr().err
