"""Keys: encrypted before they touch a disk, and files that are private from the first byte."""

import json
from pathlib import Path

import pyrage
import pytest

from playbook.actions.vault import Keys, Node, age_encryptor, pgp_key, private_file, waits_for_a_person
from playbook.trouble import Trouble

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


def test_the_keys_file_is_private_new_and_gone_when_nothing_was_written(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with private_file(path) as write:
        assert path.stat().st_mode & 0o777 == 0o600
        write(b"sealed")
    assert path.read_bytes() == b"sealed"
    with pytest.raises(Trouble, match="SFM-CLI-029"), private_file(path):
        pass
    with pytest.raises(RuntimeError), private_file(tmp_path / "other"):
        raise RuntimeError("Vault refused")
    assert not (tmp_path / "other").exists()


def test_a_pgp_key_is_given_as_vault_takes_it(tmp_path: Path) -> None:
    armoured = tmp_path / "a.asc"
    armoured.write_text(
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\nbWlu\nZQ==\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )
    assert pgp_key(armoured) == "bWluZQ=="
    binary = tmp_path / "a.gpg"
    binary.write_bytes(b"mine")
    assert pgp_key(binary) == "bWluZQ=="
    with pytest.raises(Trouble, match="SFM-VLT-005"):
        pgp_key(tmp_path / "absent")


def test_who_has_to_be_opened_by_a_person() -> None:
    def node(initialised: bool, sealed: bool, by_itself: bool = False) -> Node:
        return Node("v", initialised, sealed, active=False, version="1", unseals_itself=by_itself)

    assert waits_for_a_person([node(False, True)] * 3) == ["v is not initialised"] * 3
    assert waits_for_a_person([node(True, True), node(False, True)]) == ["v is sealed"]
    assert waits_for_a_person([node(True, True, by_itself=True)]) == []
    assert waits_for_a_person([node(True, False), node(False, True)]) == []
