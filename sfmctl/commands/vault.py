"""`sfmctl vault init|unseal|status`: what a Vault without auto-unseal needs from a person."""

from __future__ import annotations

import contextlib
import getpass
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfmctl import playrun, render
from sfmctl.codes import C
from sfmctl.exits import Exit

if TYPE_CHECKING:
    from playbook.actions.vault import Keys, Node
    from playbook.target import Target

group = typer.Typer(help="Initialise and unseal Vault where it has no auto-unseal.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(group, name="vault")


def show(nodes: list[Node], output: render.Output) -> int:
    """Print how the nodes stand; 3 when one is sealed, not initialised or does not answer."""
    rows = [
        (n.name, "", "not known", "", "") if n.problem else
        (n.name, "yes" if n.initialised else "no", f"sealed {n.progress}".strip() if n.sealed else "unsealed",
         "active" if n.active else "standby" if not n.sealed else "", n.version)
        for n in nodes
    ]  # fmt: skip
    for one in nodes:
        if one.problem:
            render.note(f"{one.name}: {one.problem}")
    columns = [render.Column(name, no_wrap=True) for name in ("node", "initialised", "seal", "role", "version")]
    render.result(
        output, "VaultStatus", json_body=lambda: {"nodes": [n.as_dict() for n in nodes]}, short_rows=lambda: rows,
        tables=lambda: [render.table(columns, rows)],
    )  # fmt: skip
    return Exit.OK if all(n.initialised and not n.sealed for n in nodes) else Exit.CHECK_FAILED


@group.command()
def status(
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    timeout: playrun.Timeout = 60.0,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Say of every node whether it is initialised, unsealed and active."""
    from playbook.actions import vault

    aim = playrun.target(cluster=cluster, context=context, kubeconfig=kubeconfig, need_infra=False)
    with playrun.probing(aim) as probe:
        return show(playrun.within(timeout, lambda: vault.nodes(probe.seen.reader, aim)), output)


@group.command()
def init(
    shares: Annotated[int, typer.Option("--shares", min=1, max=255, help="Shares of the unseal key.")] = 5,
    threshold: Annotated[int, typer.Option("--threshold", min=1, max=255, help="Shares that unseal.")] = 3,
    age: Annotated[str, typer.Option("--age", help="Encrypt the keys for this age recipient, into --out.")] = "",
    pgp: Annotated[
        list[Path] | None, typer.Option("--pgp", help="Vault encrypts each share for these PGP public keys, in turn.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="New file for the encrypted keys (with --age or --pgp).", dir_okay=False)
    ] = Path("vault-keys"),
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", help="Seconds until Vault answers; keys that are being made are waited for.", min=1),
    ] = 60.0,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Initialise Vault. The keys are shown once, here, or encrypted into a file; they are kept nowhere else."""
    from playbook.actions import vault

    if age and pgp:
        raise C.USAGE.fault("--age and --pgp exclude each other")
    if threshold > shares or (shares > 1 and threshold == 1):
        raise C.USAGE.fault(
            f"{threshold} of {shares} shares cannot unseal; take at least 2, and no more than there are"
        )
    aim = playrun.target(cluster=cluster, context=context, kubeconfig=kubeconfig, need_infra=False)
    encrypt = vault.age_encryptor(age) if age else lambda text: text.encode() + b"\n"
    public = [vault.pgp_key(path) for path in pgp or []]
    with contextlib.ExitStack() as stack:
        probe = stack.enter_context(playrun.probing(aim))
        room = (shares + 1) * vault.SHARE_BYTES
        write = stack.enter_context(vault.private_file(out, room)) if age or pgp else None
        reader = probe.seen.reader
        playrun.within(timeout, lambda: vault.answered(reader, aim, vault.pods(reader, aim)[0]))
        stack.enter_context(unstopped())
        keys = vault.initialise(reader, aim, shares=shares, threshold=threshold, pgp=public)
        if write is None:
            return told(keys, aim, output)
        return sealed(keys, aim, output, encrypt(keys.document()), out, write)


@contextlib.contextmanager
def unstopped() -> Iterator[None]:
    """^C and SIGTERM do nothing for as long as the block runs: Vault tells its keys once, and somebody has to hear."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def told(keys: Keys, aim: Target, output: render.Output) -> int:
    """Print the keys as they are."""
    body = {"unsealKeys": list(keys.shares), "threshold": keys.threshold, "rootToken": keys.root_token}
    lines = [
        *(f"unseal key {n}: {key}" for n, key in enumerate(keys.shares, 1)), f"root token:   {keys.root_token}",
        f"They are not shown again: keep them apart from each other. {keys.threshold} of them unseal.",
    ]  # fmt: skip
    render.result(
        output, "VaultKeys", json_body=lambda: {"context": aim.context, **body},
        short_rows=lambda: [*(("unseal-key", key) for key in keys.shares), ("root-token", keys.root_token)],
        tables=lambda: lines,
    )  # fmt: skip
    return Exit.OK


def sealed(
    keys: Keys, aim: Target, output: render.Output, text: bytes, file: Path, write: Callable[[bytes], None]
) -> int:
    """Put the encrypted keys into the file and say where they are; print them when the file does not take them."""
    from playbook.trouble import Trouble

    body: dict[str, object] = {"context": aim.context, "shares": len(keys.shares), "threshold": keys.threshold}
    try:
        write(text)
    except Trouble as trouble:
        fault = playrun.as_fault(trouble)
        fault.next_step = "keep what is printed, nothing else has the encrypted keys; put it into a file yourself"
        shown = text.decode().rstrip("\n")
        render.result(
            output, "VaultKeys", json_body=lambda: {**body, "file": None, "encryptedKeys": shown},
            short_rows=lambda: [(line,) for line in shown.splitlines()], tables=lambda: [render.Paste(shown)],
        )  # fmt: skip
        render.fault(fault)
        return fault.exit
    render.result(
        output, "VaultKeys", json_body=lambda: {**body, "file": str(file)}, short_rows=lambda: [("file", file)],
        tables=lambda: [f"the encrypted keys are in {file}; {keys.threshold} of {len(keys.shares)} unseal"],
    )  # fmt: skip
    return Exit.OK


def read_keys(keys_file: Path | None) -> list[str]:
    """The unseal keys, one a line: from a file, from standard input, or asked for without showing them."""
    if keys_file is not None:
        try:
            text = keys_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise C.INPUT.fault(f"{keys_file} cannot be read", why=str(error)) from error
        return text.split()
    if not sys.stdin.isatty():
        return sys.stdin.read().split()
    keys = []
    while key := getpass.getpass("unseal key (empty when there are no more): ").strip():
        keys.append(key)
    return keys


@group.command()
def unseal(
    keys_file: Annotated[
        Path | None, typer.Option("--keys-file", help="File with one unseal key a line; else standard input.")
    ] = None,
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    timeout: playrun.Timeout = 60.0,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Unseal every node with keys from standard input, a file or a hidden prompt; never from an argument."""
    from playbook.actions import vault

    keys = read_keys(keys_file)
    if not keys:
        raise C.INPUT.fault("no unseal key was given")
    aim = playrun.target(cluster=cluster, context=context, kubeconfig=kubeconfig, need_infra=False)
    started = time.monotonic()
    with playrun.probing(aim) as probe:
        nodes = vault.unseal(probe.seen.reader, aim, keys, wait_s=timeout, tell=render.note)
    render.note(f"done after {time.monotonic() - started:.0f} s")
    return show(nodes, output)
