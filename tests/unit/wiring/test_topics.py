"""Topics: current against wanted, what is changed, and what is only told."""

from dataclasses import replace

import pytest

from playbook import plan as planning
from playbook.load import packaged
from playbook.model import Fact, Verdict
from playbook.trouble import Trouble, Unknown
from playbook.wiring.application import application
from playbook.wiring.kafka_job import done, topics_request
from playbook.wiring.topics import changes, left_alone, wanted
from sfmctl import playviews
from sfmctl.commands.app import parts

APP = application("shop", "dev")


def test_the_mode_decides_partitions_factor_and_retention(dev, staging):
    small, large = wanted(APP, dev), wanted(APP, staging)
    assert [t.name for t in small] == ["shop.events", "shop.events.dlq"]
    assert {(t.partitions, t.replication_factor) for t in small} == {(3, 1)}
    assert {(t.partitions, t.replication_factor) for t in large} == {(6, 3)}
    assert small[0].config["retention.ms"] == str(72 * 3600 * 1000)
    assert large[0].config["min.insync.replicas"] == "2"


def test_what_is_absent_is_made_and_what_fits_is_kept(dev):
    events, dlq = wanted(APP, dev)
    made, kept = changes((events, dlq), {dlq.name: dlq})
    assert (made.action, kept.action) == ("create", "keep")
    assert kept.words == [] and made.words == ["shop.events is absent"]
    request = topics_request((made, kept))
    assert [t["name"] for t in request["create"]] == ["shop.events"]
    assert request["grow"] == [] and request["configure"] == []


def test_partitions_grow_and_only_our_settings_are_set(dev):
    events, _ = wanted(APP, dev)
    there = replace(events, partitions=1, config={**events.config, "retention.ms": "5", "segment.bytes": "1"})
    (change,) = changes((events,), {events.name: there})
    assert change.action == "change" and change.as_dict()["partitionGrowth"] == 2
    assert change.settings == {"retention.ms": ("5", str(72 * 3600 * 1000))}
    request = topics_request((change,))
    assert request["grow"] == [{"name": "shop.events", "partitions": 3}]
    assert request["configure"] == [{"name": "shop.events", "config": {"retention.ms": str(72 * 3600 * 1000)}}]


@pytest.mark.parametrize(
    ("field", "value", "code"), [("replication_factor", 3, "SFM-KAF-011"), ("partitions", 12, "SFM-KAF-012")]
)
def test_what_cannot_be_changed_is_told_and_left(dev, field, value, code):
    events, _ = wanted(APP, dev)
    (change,) = changes((events,), {events.name: replace(events, **{field: value})})
    assert change.action == "keep" and change.words == []
    assert [c for c, _ in change.unfit] == [code]
    assert topics_request((change,)) == {"create": [], "grow": [], "configure": []}


def test_what_is_left_alone_is_told_by_the_plan_by_show_and_at_the_end(staging):
    want = wanted(APP, staging)
    there = {t.name: replace(t, replication_factor=1) for t in want[:1]} | {want[1].name: want[1]}
    seen = {"app.kafka.elsewhere": [], "app.topics.wanting": [], "app.topics.unfit": left_alone(changes(want, there))}
    facts = {name: Fact(name, value) for name, value in seen.items()}
    plan = planning.plan("topics-apply", [packaged().steps["app.topics"]], facts, target="here")
    left = "shop.events: replication factor 1, wanted 3 (SFM-KAF-011)"
    [item] = plan.items
    assert (item.verdict, item.why) == (Verdict.DONE, f"app.topics.wanting is none; left as it is: {left}")
    assert parts(plan) == [{"part": "topics", "state": "warning", "why": left}]
    said = playviews.run_tables(plan, [], [], 0, 10)
    assert f"app.topics leaves as it is: {left}" in said
    assert "everything is as it should be" not in str(said)
    well = planning.plan("", [item.step], facts | {"app.topics.unfit": Fact("app.topics.unfit", [])}, target="here")
    assert parts(well) == [{"part": "topics", "state": "ok", "why": ""}]
    assert "everything is as it should be" in str(playviews.run_tables(well, [], [], 0, 10))


def test_the_jobs_answer_is_found_among_the_clients_own_lines():
    noise = "%6|1.2|BGQUEUE|sfmctl| [thrd:background]: Purging 1 unserved events"
    assert done('{"done": ["user shop"]}\n' + noise + "\n") == ["user shop"]
    with pytest.raises(Trouble) as refused:
        done(noise + '\n{"error": "TOPIC_AUTHORIZATION_FAILED"}\n')
    assert refused.value.code == "SFM-KAF-010"
    with pytest.raises(Trouble) as small:
        done('{"error": "INVALID_REPLICATION_FACTOR", "code": "SFM-KAF-017"}\n' + noise)
    assert (small.value.code, small.value.why) == ("SFM-KAF-017", "INVALID_REPLICATION_FACTOR")
    with pytest.raises(Unknown) as silent:
        done(noise)
    assert silent.value.code == "SFM-APP-011"


def test_both_jobs_are_what_pod_security_restricted_admits(staging):
    from playbook.target import Target
    from playbook.wiring import job, kafka_job, probe_job
    from playbook.wiring.reach import Reach

    reach = Reach(Target(app=APP), None)
    for one in (kafka_job.described(reach), probe_job.described(reach, staging)):
        made = job.manifest(reach, one)
        pod = made["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert made["spec"]["backoffLimit"] == 0
        assert made["spec"]["activeDeadlineSeconds"] == job.START_S + one.run_s <= 300
        assert container["resources"]["limits"] == {"cpu": "1", "memory": "256Mi"}
        marks = made["spec"]["template"]["metadata"]
        assert marks["labels"]["sidecar.istio.io/inject"] == marks["annotations"]["sidecar.istio.io/inject"] == "false"
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}
        assert one.module in container["command"]
        assert not pod["automountServiceAccountToken"]
