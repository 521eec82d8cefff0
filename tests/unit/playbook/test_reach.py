"""How a command inside a pod ended, from what the kubelet says at the end, or leaves out."""

import json
from typing import Any

import pytest

from playbook.reach import exit_code
from playbook.trouble import Unknown


def failure(reason: str, *causes: dict[str, str]) -> dict[str, Any]:
    return {"status": "Failure", "reason": reason, "message": f"so it says: {reason}", "details": {"causes": causes}}


def test_the_exit_code_is_the_commands_own() -> None:
    assert exit_code(json.dumps({"metadata": {}, "status": "Success"}), "a/b") == 0
    ended = failure("NonZeroExitCode", {"reason": "ExitCode", "message": "137"})
    assert exit_code(json.dumps(ended), "a/b") == 137


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "the connection ended before it was said"),
        ("null", "null"),
        ("no JSON", "no JSON"),
        (json.dumps(failure("InternalError", {"message": "container not running"})), "so it says: InternalError"),
        (json.dumps({"status": "Failure", "message": "no details"}), "no details"),
    ],
)
def test_an_end_without_an_exit_code_is_not_known(said: str, why: str) -> None:
    with pytest.raises(Unknown) as caught:
        exit_code(said, "redis-0/redis")
    assert (caught.value.code, caught.value.why) == ("SFM-K8S-017", why)
    assert "redis-0/redis" in caught.value.what
