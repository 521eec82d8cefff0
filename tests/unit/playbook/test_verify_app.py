"""The application's rows apart from a cluster: what is asked, how answers are read, waived and bundled."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest

from playbook import bundle, scrub, waivers
from playbook.check import Probe, run
from playbook.facts import Observer
from playbook.incluster import app_probe
from playbook.kube import Reader
from playbook.load import packaged
from playbook.model import Check, Status
from playbook.shell import Shell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown
from playbook.wiring import checks, probe_job
from playbook.wiring.application import application
from playbook.wiring.endpoints import Endpoints
from testing.api import serving
from tests.unit.wiring.conftest import DEV

APP = application("shop", "dev")
AT = Endpoints(DEV, "soma-infra")
CHECKS = ["app.redis", "redis.ping"]
WANTED = {"shop.events": {"partitions": 3, "replicas": 3}}


def check(check_id: str, status: Status = Status.FAIL) -> Check:
    return Check(check_id, "app", "t", "c", "c", status, "seen", "SFM-X", "doc", 1, 1)


def test_the_question_names_topics_and_another_path_and_holds_no_secret():
    asked = probe_job.question(APP, AT, ["billing", "orders"])
    assert asked["topics"]["shop.events"] == {"partitions": 3, "replicas": 1}
    nobody, *wired = asked["other_paths"]
    assert nobody.endswith("/dev") and nobody != APP.secret_path
    assert wired == ["shared-infra/billing/dev", "shared-infra/orders/dev"]
    assert not any("password" in key.lower() for key in json.dumps(asked).split('"'))


@pytest.mark.parametrize(
    ("topics", "code"),
    [
        ({}, "SFM-KAF-015"),
        ({"shop.events": [(3, 3)] * 2}, "SFM-KAF-016"),
        ({"shop.events": [(1, 1)] * 3}, "SFM-KAF-011"),
        ({"shop.events": [(3, 3), (3, 1), (3, 3)]}, "SFM-KAF-002"),
    ],
)
def test_each_difference_of_a_topic_has_its_own_code(topics, code):
    found = app_probe.judge_topics(topics, WANTED, 2)
    assert found is not None
    assert found[2] == code


def test_the_partitions_whose_replicas_differ_are_named():
    found = app_probe.judge_topics({"shop.events": [(3, 3), (1, 1), (2, 2)]}, WANTED, 2)
    assert found is not None
    assert found[1] == "shop.events: partitions with another number of replicas than 3: 1 (1), 2 (2)"


def test_topics_as_the_mode_says_are_fine_and_more_partitions_are_too():
    assert app_probe.judge_topics({"shop.events": [(3, 2)] * 4}, WANTED, 2) is None


def test_each_server_is_trusted_through_its_own_authority():
    own, theirs = "OUR CERTIFICATE", "THEIR CERTIFICATE"
    outside = {"REDIS_HOST": "r.example", "REDIS_CA": theirs, "KAFKA_BOOTSTRAP_SERVERS": "b-1.example:9096"}
    at = Endpoints(DEV | outside, "soma-infra", ca=own)
    trusted = probe_job.question(APP, at)["ca"]
    assert trusted == {"vault": "/etc/soma-infra/ca.crt", "postgres": "/etc/soma-infra/ca.crt",
                       "redis": "/etc/soma-infra/redis.crt", "kafka": ""}  # fmt: skip
    assert at.authorities() == {"ca.crt": own, "redis.crt": theirs}
    env = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_BOOTSTRAP_SERVERS": "x", "KAFKA_SASL_MECHANISM": "x",
           "KAFKA_SASL_USERNAME": "x", "KAFKA_SASL_PASSWORD": "x"}  # fmt: skip
    assert "ssl.ca.location" not in app_probe.kafka_settings(env, {"ca": trusted})
    named = app_probe.kafka_settings(env, {"ca": {"kafka": "/etc/soma-infra/kafka.crt"}})
    assert named["ssl.ca.location"] == "/etc/soma-infra/kafka.crt"


def test_every_code_that_the_probe_can_give_is_in_the_book():
    import re
    from pathlib import Path

    source = Path(app_probe.__file__).read_text() + Path(checks.__file__).read_text()
    named = set(re.findall(r"SFM-[A-Z0-9]+-\d{3}", source))
    assert len(named) > 10
    assert named <= set(packaged().codes)


def test_a_secret_value_never_leaves_the_probe():
    env = {"POSTGRES_PASSWORD": "hunter2hunter2", "POSTGRES_DSN": "postgresql://shop:hunter2hunter2@h/shop"}
    said = app_probe.scrubbed("could not connect with postgresql://shop:hunter2hunter2@h/shop\n(hunter2hunter2)", env)
    assert "hunter2" not in said
    assert "<POSTGRES_PASSWORD>" in said


def test_a_missing_setting_is_a_failure_of_the_settings_not_a_crash():
    record = app_probe.asked_one("database", {}, {"app": "shop"})
    assert (record["status"], record["code"]) == ("fail", "SFM-APP-008")
    assert "POSTGRES_DSN" in record["observed"]


def test_a_job_without_an_answer_is_undetermined():
    with pytest.raises(Unknown) as caught:
        probe_job.answered("Traceback (most recent call last):\nImportError: no\n", 1000)
    assert caught.value.code == "SFM-APP-013"


def test_the_jobs_lines_are_found_among_the_clients_own_and_what_has_none_is_undetermined_alone():
    line = '{"check": "redis", "status": "pass", "observed": "PONG", "code": "", "ms": 40}'
    found = probe_job.answered(f'%6|1.2|BGQUEUE| purging\n{line}\n{{"asked_ms": 300}}\n', 2000)
    assert (found.start_ms, found.asked_ms) == (1700, 300)
    assert found.records["redis"]["status"] == "pass"
    assert {r["status"] for name, r in found.records.items() if name != "redis"} == {"error"}
    assert set(found.records) == set(probe_job.ASKED)


def test_each_row_of_the_job_tells_its_own_time_and_the_jobs_row_what_it_waited_for(tmp_path):
    took = {"database": 350, "redis": 40, "kafka": 900, "vault": 120}
    records = {name: {"status": "pass", "observed": "well", "code": "", "ms": ms} for name, ms in took.items()}
    functions = {"app.inside": checks.inside, "app.asked": checks.found_inside}
    book, shell = packaged(), Shell()
    specs = [replace(spec, needs=()) for spec in book.checks.values() if spec.probe in functions]
    with serving(tmp_path / "kubeconfig", "kind-soma") as api:
        api.put(
            "/api/v1/namespaces/soma-infra/configmaps", {"metadata": {"name": "sharedinfra-endpoints"}, "data": DEV}
        )
        target = Target(app=APP, kubeconfig=tmp_path / "kubeconfig")
        kept = {checks.ANSWERS: probe_job.Answers(records, 3100, 950)}
        probe = Probe(target, book, Observer(target, book), shell, kept=kept)
        rows = {row.id: row for row in run(probe, specs, lambda name: functions[name], timeout_s=10)}
        probe.close()
    assert {name: rows[f"app.{name}"].duration_ms for name in took} == took
    assert rows["app.inside"].observed.endswith("3.1 s until its pod could ask, 0.9 s to ask (slowest: kafka 900 ms)")


def test_a_sync_is_late_only_after_its_refresh_and_grace():
    stamp = "2026-01-01T00:00:00Z"
    now = datetime.datetime(2026, 1, 1, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert checks.refreshed_late_s(stamp, now) <= 0
    assert checks.refreshed_late_s(stamp, now + 120) > 0


def test_a_waiver_makes_a_failure_a_warning_until_its_day(tmp_path):
    file = tmp_path / "waivers.yaml"
    file.write_text("- {check: 'app.*', reason: moving house, until: 2026-12-31}\n")
    listed = waivers.load(file, CHECKS)
    day = datetime.date(2026, 12, 31)
    one, other = (waivers.excused(check(name), listed, day) for name in CHECKS)
    assert (one.status, other.status) == (Status.WARN, Status.FAIL)
    assert "moving house" in one.observed
    late = waivers.excused(check("app.redis"), listed, day + datetime.timedelta(days=1))
    assert late.status is Status.FAIL
    assert "its waiver ended on 2026-12-31" in late.observed


def test_a_waiver_excuses_failures_only(tmp_path):
    file = tmp_path / "waivers.yaml"
    file.write_text("- {check: 'app.*', reason: r, until: 2026-12-31}\n")
    for status in (Status.PASS, Status.ERROR, Status.SKIP):
        listed = waivers.load(file, CHECKS)
        one = waivers.excused(check("app.redis", status), listed, datetime.date(2026, 1, 1))
        assert one.status is status


@pytest.mark.parametrize(
    "text",
    ["check: x", "- {check: x, reason: r}", "- {check: x, reason: '', until: 2026-01-01}",
     "- {check: x, reason: r, until: soon}", "- {check: x, reason: r, until: 2026-01-01, extra: 1}", "- [",
     "- {check: app.rediss, reason: r, until: 2026-01-01}"],
)  # fmt: skip
def test_a_bad_waiver_file_is_refused_with_its_code(tmp_path, text):
    file = tmp_path / "waivers.yaml"
    file.write_text(text)
    with pytest.raises(Trouble) as caught:
        waivers.load(file, [*CHECKS, "x"])
    assert caught.value.code == "SFM-CLI-030"


def test_an_absent_waiver_file_is_refused(tmp_path):
    with pytest.raises(Trouble, match="not valid"):
        waivers.load(tmp_path / "none.yaml", CHECKS)


def test_secret_values_are_cut_out_longest_first():
    said = scrub.scrubbed("dsn=abc-secret-def token=secret", ["abc-secret-def", "secret"])
    assert said == "dsn=<secret> token=<secret>"


@pytest.mark.parametrize("form", [
    "pa\u00df/w ör+d\"1", "pa%C3%9F%2Fw%20%C3%B6r%2Bd%221", "pa%C3%9F%2Fw+%C3%B6r%2Bd%221", "cGHDny93IMO2citkIjE=",
    "cGHDny93IMO2citkIjE", 'pa\\u00df/w \\u00f6r+d\\"1',
])  # fmt: skip
def test_a_secret_value_is_cut_out_in_every_form_that_it_takes(form):
    value = 'paß/w ör+d"1'
    assert scrub.scrubbed(f"said {form} twice", [value]).replace("=", "") == "said <secret> twice"
    assert app_probe.scrubbed(f"said {form}", {"REDIS_PASSWORD": value}).replace("=", "") == "said <REDIS_PASSWORD>"


def test_the_records_of_a_bundle_hold_no_value_of_a_secret(tmp_path):
    said = replace(check("app.redis"), observed="refused: redis://shop:hunter2hunter2@h \udc80")
    with serving(tmp_path / "kubeconfig", "kind-soma") as api:
        kept = {"metadata": {"name": "shop-runtime"}, "data": {"REDIS_PASSWORD": "aHVudGVyMmh1bnRlcjI="}}
        api.put("/api/v1/namespaces/shop/secrets", kept)
        bundle.write(tmp_path / "b", lambda: Reader("kind-soma", tmp_path / "kubeconfig"), ["shop"], [said])
    [written] = json.loads((tmp_path / "b" / "checks.json").read_text())
    assert written["observed"] == "refused: redis://shop:<secret>@h \udc80"
    assert (written["id"], written["duration_ms"]) == ("app.redis", 1)


def test_the_application_rows_hang_on_the_roots_they_need():
    rows = packaged().checks
    assert rows["app.redis"].needs == ("app.inside", "redis.ping")
    assert rows["app.vault"].needs == ("app.inside", "vault.health")
    assert set(rows["app.inside"].needs) == {"app.settings", "app.secrets"}
