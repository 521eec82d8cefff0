"""While a plan is being made nothing can be written, whatever the code above asks for."""

import contextlib

import pytest

from playbook.kube import WriteRefused
from playbook.load import packaged
from playbook.target import Target
from playbook.wiring import redis as server
from playbook.wiring.facts import NAMES
from playbook.wiring.reach import Reach
from playbook.wiring.vault import ReadSession


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post"])
def test_a_reading_session_sends_no_write_to_vault(method):
    with ReadSession() as session, pytest.raises(WriteRefused):
        session.request(method, "http://127.0.0.1:9/v1/secret/data/shop")


@pytest.mark.parametrize(
    "command", [("SET", "k", "v"), ("ACL", "SETUSER", "x"), ("ACL SETUSER", "x"), ("FLUSHALL",), ("DEL", "k")]
)
def test_a_reading_client_sends_no_write_to_redis(command, dev):
    class Away(Reach):
        @contextlib.contextmanager
        def address(self, host, port, at, *, pod=""):
            yield "127.0.0.1", 9

    with server.connected(Away(Target(), None), dev, "pod", "user", "x") as client, pytest.raises(WriteRefused):
        client.execute_command(*command)


def test_every_fact_that_the_book_asks_of_an_application_is_observed():
    book = packaged()
    asked = {c.fact for s in book.steps.values() for c in (*s.done_when, *s.only_when) if c.fact.startswith("app.")}
    asked |= {name for s in book.steps.values() for name in s.leaves}
    assert asked <= {name for names in NAMES.values() for name in names}


def test_what_unwire_takes_away_wire_gives_and_data_goes_only_when_asked():
    book = packaged()
    facts = {p: {c.fact for n in book.plays[p] for c in book.steps[n].done_when} for p in ("app-unwire", "app-erase")}
    assert not [f for f in facts["app-unwire"] if f.endswith(".data")]
    assert {f for f in facts["app-erase"] if f.endswith(".data")} == {
        "app.database.data", "app.redis.data", "app.topics.data", "app.vault.data",
    }  # fmt: skip
    assert facts["app-unwire"] < facts["app-erase"]
    erased = [book.steps[n] for n in book.plays["app-erase"]]
    assert all(step.destructive for step in erased if step.action not in ("gate", "app.image"))
    assert not any(book.steps[n].destructive for n in book.plays["app-wire"])
