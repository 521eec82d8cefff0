"""What the Job that administers Kafka asks for, in which order, and what it says when it does not get it."""

import json
import re
import socket
from concurrent.futures import Future
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from playbook.incluster import kafka_admin
from playbook.load import packaged
from playbook.wiring.access import kafka_acls
from playbook.wiring.application import application
from playbook.wiring.kafka_job import access_request

WANTED = kafka_admin.bindings("User:shop", access_request("shop", kafka_acls(application("shop", "dev")), "x")["acls"])


def test_an_acl_that_drifted_is_mended_without_taking_the_others_away():
    [stray] = kafka_admin.bindings(
        "User:shop", [{"resource": "TOPIC", "pattern": "LITERAL", "name": "billing.events", "operation": "READ"}]
    )
    missing, *kept = WANTED
    create, delete = kafka_admin.acl_calls([*kept, stray], WANTED)
    assert create == ("create_acls", [missing]), "what is missing is made before anything goes"
    name, [narrow] = delete
    assert name == "delete_acls"
    assert (narrow.name, narrow.operation, narrow.restype) == (stray.name, stray.operation, stray.restype)
    assert narrow.resource_pattern_type == stray.resource_pattern_type and narrow.host == "*"


def test_acls_that_are_right_are_left_alone_and_all_of_them_can_be_taken_away():
    assert kafka_admin.acl_calls(WANTED, WANTED) == []
    assert [(name, len(acls)) for name, acls in kafka_admin.acl_calls([], WANTED)] == [("create_acls", len(WANTED))]
    assert [(name, len(acls)) for name, acls in kafka_admin.acl_calls(WANTED, [])] == [("delete_acls", len(WANTED))]


def run(folder: Path, port: int, **request) -> int:
    """The Job's program on one request."""
    file = folder / "request.json"
    file.write_text(json.dumps({"client": {"bootstrap.servers": f"127.0.0.1:{port}"}, "user": "shop", **request}))
    return kafka_admin.main(["kafka_admin", str(file)])


def test_a_broker_that_takes_the_connection_and_says_nothing_is_told_as_that(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kafka_admin, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert run(tmp_path, silent.getsockname()[1], delete=["shop.events"]) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "SFM-KAF-001"


def test_an_answer_that_does_not_come_in_time_is_told_and_is_no_crash(tmp_path, capsys, monkeypatch):
    def slow(client, request):
        kafka_admin.settled({"shop.events": Future()})
        return []

    monkeypatch.setattr(kafka_admin, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(kafka_admin, "CHANGES", (("SFM-KAF-017", slow),))
    assert run(tmp_path, 9) == 3
    said = json.loads(capsys.readouterr().out)
    assert said == {"error": "no answer within 0.05 s", "code": "SFM-KAF-001"}


@pytest.mark.parametrize(
    ("number", "code"),
    [(KafkaError.INVALID_REPLICATION_FACTOR, "SFM-KAF-017"), (KafkaError._TRANSPORT, "SFM-KAF-001"),
     (KafkaError.POLICY_VIOLATION, "SFM-KAF-017"), (KafkaError.REQUEST_TIMED_OUT, "SFM-KAF-001")],
)  # fmt: skip
def test_a_refusal_has_the_code_of_what_was_asked_and_silence_its_own(number, code):
    assert kafka_admin.refusal(KafkaException(KafkaError(number)), "SFM-KAF-017")["code"] == code


def test_every_code_of_the_job_is_in_the_book():
    named = set(re.findall(r"SFM-[A-Z0-9]+-\d{3}", Path(kafka_admin.__file__).read_text()))
    assert named == {"SFM-KAF-001", "SFM-KAF-010", "SFM-KAF-014", "SFM-KAF-017"} <= set(packaged().codes)
