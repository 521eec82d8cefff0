"""One record, four renderings: nothing that one of them says is missing from another."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from playbook.load import packaged
from playbook.model import Check, Status
from sfmctl import checks, render
from sfmctl.exits import Exit, worst
from sfmctl.fault import Fault
from sfmctl.playrun import check_exits


def record(name: str, status: Status, hint: str = "", observed: str = "as seen") -> Check:
    return Check(id=name, category=name.split(".", maxsplit=1)[0], title=name, command=f"ask {name}", criterion="well",
                 status=status, observed=observed, hint=hint, doc="docs/x.md#y",
                 duration_ms=1234, attempts=2)  # fmt: skip


ALL = [
    record("cluster.api", Status.PASS),
    record("pods.restarts", Status.WARN, "SFM-K8S-016: look"),
    record("vault.health", Status.FAIL, "SFM-VLT-001: sfmctl vault unseal", "sealed \x1b[31m<&>"),
    record("kafka.brokers", Status.SKIP, observed="because of release.deployed"),
    record("redis.ping", Status.ERROR, "SFM-K8S-017: sfmctl status"),
]


def test_json_is_one_document_with_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    checks.show(ALL, render.Output.JSON, "Verification", 5000, 3)
    found = json.loads(capsys.readouterr().out)
    assert (found["schemaVersion"], found["kind"], found["duration_ms"], found["exitCode"]) == (
        1,
        "Verification",
        5000,
        3,
    )
    assert found["checks"] == [c.as_dict() for c in ALL]
    assert found["checks"][0]["duration_ms"] == 1234


def test_short_is_one_line_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    checks.show(ALL, render.Output.SHORT, "Verification", 5000, 3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [[c.status.value, c.id] for c in ALL]


def test_a_table_has_what_is_wrong_with_its_hint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    checks.show(ALL, render.Output.TABLE, "Verification", 5000, 3)
    out = capsys.readouterr().out
    assert "SFM-VLT-001: sfmctl vault unseal" in out
    assert "1 pass, 1 warn, 1 fail, 1 skip, 1 error" in out


def test_junit_counts_and_names_every_check() -> None:
    suite = ElementTree.fromstring(checks.junit(ALL, 5000))  # noqa: S314 - our own
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite}
    assert set(cases) == {c.id for c in ALL}
    failure = cases["vault.health"].find("failure")
    assert failure is not None
    assert failure.get("type") == "SFM-VLT-001"
    assert "sfmctl vault unseal" in (failure.text or "")
    assert cases["cluster.api"].get("time") == "1.234"


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\r", "\ud800", "\udc80", "\ufffe", "\uffff"])
def test_junit_is_read_whatever_a_server_said(tmp_path: Path, sign: str) -> None:
    said = record("redis.ping", Status.FAIL, "SFM-RED-001: look", f"bad{sign} bytes \u2192 \U0001f525")
    checks.write_junit(tmp_path / "r.xml", [said], 10)
    failure = ElementTree.parse(tmp_path / "r.xml").getroot()[0][0]  # noqa: S314 - our own
    assert failure.get("message") == "bad bytes \u2192 \U0001f525"


def test_junit_has_an_error_before_any_check(tmp_path: Path) -> None:
    fault = Fault("SFM-K8S-002", "no such context", why="the kubeconfig lacks it", next_step="sfmctl cluster create")
    checks.write_junit(tmp_path / "r.xml", [], 10, fault)
    suite = ElementTree.parse(tmp_path / "r.xml").getroot()  # noqa: S314 - our own
    assert suite.get("errors") == "1"
    assert suite[0].get("classname") == "setup"
    with pytest.raises(Fault) as caught:
        checks.write_junit(tmp_path / "nowhere" / "r.xml", [], 10, fault)
    assert caught.value.code == "SFM-CLI-029"


@pytest.mark.parametrize(
    ("records", "fail_on", "code"),
    [
        ([ALL[0]], "fail", Exit.OK),
        ([ALL[0], ALL[1]], "fail", Exit.OK),
        ([ALL[0], ALL[1]], "warning", Exit.WARNINGS),
        (ALL, "fail", Exit.CHECK_FAILED),
        ([ALL[4]], "fail", Exit.UNDETERMINED),
        ([record("a", Status.ERROR, "SFM-CLI-025: longer")], "fail", Exit.TIMED_OUT),
        ([record("a", Status.ERROR, "SFM-CLI-025: longer"), ALL[4]], "fail", Exit.TIMED_OUT),
    ],
)
def test_the_exit_code_follows_from_the_records_alone(records: list[Check], fail_on: str, code: Exit) -> None:
    assert worst(check_exits(records, packaged(), fail_on)) == code


def test_the_table_says_where_the_time_went() -> None:
    took = {"a": 50, "b": 2500, "c": 300, "d": 150, "e": 120}
    rows = [replace(ALL[0], id=name, duration_ms=ms) for name, ms in took.items()]
    assert checks.where_time_went(rows, 2600) == "2.6 s; longest: b 2.5 s, c 0.3 s, d 0.1 s"
    assert checks.where_time_went([], 40) == "0.0 s"
