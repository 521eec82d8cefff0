"""Keys: encrypted before they touch a disk, and files that are private from the first byte."""

import base64
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyrage
import pytest

from playbook.actions.vault import (
    Keys,
    Node,
    age_encryptor,
    nodes,
    pgp_key,
    private_file,
    unseal,
    waits_for_a_person,
)
from playbook.kube import Reader
from playbook.target import Target
from playbook.trouble import Trouble, Unknown
from sfmctl import app
from sfmctl.commands import vault as commands
from sfmctl.render import Output
from testing.api import serving

KEYS = Keys(("c2hhcmUtMQ==", "c2hhcmUtMg=="), 2, "hvs.root")


def test_what_age_encrypts_only_the_recipient_reads() -> None:
    identity, stranger = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    sealed = age_encryptor(str(identity.to_public()))(KEYS.document())
    assert sealed.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----")
    assert b"hvs.root" not in sealed
    opened = json.loads(pyrage.decrypt(sealed, [identity]))
    assert opened == {"unseal_keys": list(KEYS.shares), "threshold": 2, "root_token": "hvs.root"}
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(sealed, [stranger])


@pytest.mark.parametrize("recipient", ["", "age1nonsense", "AGE-SECRET-KEY-1", "ssh-rsa nonsense"])
def test_a_recipient_that_is_none_is_refused_before_there_are_keys(recipient: str) -> None:
    with pytest.raises(Trouble, match="SFM-VLT-005"):
        age_encryptor(recipient)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process takes a byte more for as long as the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_keys_file_is_private_new_and_gone_when_nothing_was_written(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with private_file(path, 4096) as write:
        assert (path.stat().st_mode & 0o777, path.stat().st_blocks * 512) == (0o600, 4096)  # its room is taken
        write(b"sealed")
    assert path.read_bytes() == b"sealed"
    with pytest.raises(Trouble, match="SFM-CLI-029"), private_file(path, 4096):
        pass
    with pytest.raises(RuntimeError), private_file(tmp_path / "other", 4096):
        raise RuntimeError("Vault refused")
    assert not (tmp_path / "other").exists()


def test_vault_is_not_asked_for_keys_when_there_is_no_room_for_them(tmp_path: Path) -> None:
    asked = False
    with full_disk(), pytest.raises(Trouble, match="SFM-CLI-029"), private_file(tmp_path / "keys", 4096):
        asked = True
    assert not asked
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("output", Output)
def test_keys_that_the_file_does_not_take_are_printed_and_the_file_is_left(
    output: Output, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, text = tmp_path / "keys", ("x" * 64 + "\n") * 5 + "y" * 200 + "\n"
    with private_file(path, 4096) as write, full_disk():
        assert commands.sealed(KEYS, Target(), output, text.encode(), path, write) == 2
    told = capsys.readouterr()
    printed = json.loads(told.out)["encryptedKeys"] + "\n" if output is Output.JSON else told.out
    assert printed == text
    assert "SFM-CLI-029" in told.err
    assert "keep what is printed" in told.err
    assert path.exists()
    with private_file(tmp_path / "another", 4096) as write:
        assert commands.sealed(KEYS, Target(), output, text.encode(), tmp_path / "another", write) == 0
    assert (tmp_path / "another").read_text() == text
    assert "xxx" not in capsys.readouterr().out


def test_a_stop_waits_until_the_keys_are_told() -> None:
    with commands.unstopped():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


ARMOUR = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n{}bWlu\nZQ==\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----"


@pytest.mark.parametrize(
    "text",
    [
        ARMOUR.format("Comment: x\n\n") + "\n",
        ARMOUR.format("\n"),
        ARMOUR.format(""),
        "\n" + ARMOUR.format("\n") + "\n\n",
        "\ufeff\n" + ARMOUR.format("Version: 1\nComment: x\n \n") + "\n \n",
        "pub  ed25519\n" + ARMOUR.format("\n") + "\n" + ARMOUR.format("\n"),
        ARMOUR.format("\n").replace("\n", "\r\n") + "\r\n",
    ],
)
def test_a_pgp_key_is_given_as_vault_takes_it(text: str, tmp_path: Path) -> None:
    armoured = tmp_path / "a.asc"
    armoured.write_text(text, newline="")
    assert pgp_key(armoured) == "bWluZQ=="


def test_a_binary_pgp_key_is_given_as_vault_takes_it(tmp_path: Path) -> None:
    binary = tmp_path / "a.gpg"
    binary.write_bytes(b"\x99mine")
    assert base64.b64decode(pgp_key(binary)) == b"\x99mine"


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nbWlu\n",
        ARMOUR.format("\n").replace("PUBLIC", "PRIVATE"),
        ARMOUR.format("\n").replace("bWlu", "bWl"),
        ARMOUR.format("\n").replace("bWlu", "b\u00fc!n"),
    ],
)
def test_what_is_no_pgp_key_is_refused_before_vault_is_asked(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.asc").write_text(text)
    for path in (tmp_path / "a.asc", tmp_path / "absent"):
        with pytest.raises(Trouble, match="SFM-VLT-005"):
            pgp_key(path)


def test_who_has_to_be_opened_by_a_person() -> None:
    def node(initialised: bool, sealed: bool, by_itself: bool = False, problem: str = "") -> Node:
        return Node("v", initialised, sealed, active=False, version="1", unseals_itself=by_itself, problem=problem)

    assert waits_for_a_person([node(False, True)] * 3) == ["v is not initialised"] * 3
    assert waits_for_a_person([node(True, True), node(False, True)]) == ["v is sealed"]
    assert waits_for_a_person([node(True, True, by_itself=True)]) == []
    assert waits_for_a_person([node(True, False), node(False, True)]) == []
    assert waits_for_a_person([node(True, True), node(False, False, problem="it does not answer")]) == []


@pytest.fixture
def away(tmp_path: Path) -> Iterator[tuple[Reader, Target]]:
    """A cluster whose API server has two Vault pods and no way into either."""
    with serving(tmp_path / "kubeconfig", "kind-soma") as api:
        labels = {"app.kubernetes.io/name": "vault", "app.kubernetes.io/instance": "sharedinfra"}
        api.put(
            "/api/v1/namespaces/soma-infra/pods",
            *({"metadata": {"name": f"vault-{n}", "labels": labels}, "spec": {}} for n in (0, 1)),
        )
        aim = Target(kubeconfig=tmp_path / "kubeconfig")
        reader = Reader(aim.context, aim.kubeconfig)
        yield reader, aim
        reader.close()


def test_a_node_that_is_away_hides_no_other_ones_standing(away: tuple[Reader, Target]) -> None:
    found = nodes(*away)
    assert [one.name for one in found] == ["vault-0", "vault-1"]
    for one in found:
        assert "does not answer" in one.problem
        assert list(one.as_dict()) == ["name", "problem"]
    assert app.run(["vault", "status", "--kubeconfig", str(away[1].kubeconfig)]) == 3


def test_unsealing_goes_on_past_a_node_that_is_away_and_says_so_at_the_end(away: tuple[Reader, Target]) -> None:
    said: list[str] = []
    with pytest.raises(Unknown) as caught:
        unseal(*away, ["a key"], wait_s=1, tell=said.append)
    assert [line.partition(":")[0] for line in said] == ["vault-0", "vault-1"]
    assert (caught.value.code, caught.value.what[:8]) == ("SFM-VLT-002", "vault-0:")
    assert "vault-1: Vault does not answer" in caught.value.why
