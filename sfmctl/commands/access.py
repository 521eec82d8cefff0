"""The parts of a wire-up as commands of their own: `sfmctl vault policy|role apply`, `sfmctl db provision`."""

from __future__ import annotations

from collections.abc import Callable

import typer

from sfmctl import playrun, render
from sfmctl.commands.app import Env, Name, Namespace, aim_at


def register(app: typer.Typer) -> None:
    """Add the commands; `vault` may have been made by another module."""
    made = next((g.typer_instance for g in app.registered_groups if g.name == "vault"), None)
    known = {g.name for g in made.registered_groups} if made else set()
    if made is None:
        made = typer.Typer(no_args_is_help=True, help="Vault: what an application may read, and who it is.")
        app.add_typer(made, name="vault")
    for noun, command, help_ in (
        ("policy", apply_policy, "What an application may read in Vault."),
        ("role", apply_role, "Which ServiceAccount is the application, for Vault."),
    ):
        if noun in known:
            continue
        group = typer.Typer(no_args_is_help=True, help=help_)
        group.command("apply")(command)
        made.add_typer(group, name=noun)
    database = typer.Typer(no_args_is_help=True, help="An application's database.")
    database.command("provision")(provision)
    app.add_typer(database, name="db")


def part(play: str, doc: str) -> Callable[..., int]:
    """The command that runs the play of one part; all of them take the same options."""

    def command(
        name: Name,
        env: Env = "dev",
        namespace: Namespace = "",
        cluster: playrun.Cluster = "soma",
        context: playrun.Context = "",
        kubeconfig: playrun.Kubeconfig = None,
        yes: playrun.Yes = False,
        dry_run: playrun.DryRun = False,
        exit_code: playrun.ExitCode = False,
        timeout: playrun.Timeout = playrun.WHOLE_S,
        output: render.OutputOption = render.Output.TABLE,
    ) -> int:
        aim = aim_at(name, env, namespace, cluster, context, kubeconfig)
        return playrun.run_play(play, aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code)

    command.__doc__ = doc
    return command


apply_policy = part("vault-policy", "Write the policy that lets an application read its own path, and nothing else.")
apply_role = part(
    "vault-role",
    "Bind the application's role to its ServiceAccount and namespace, for tokens made for Vault, for 24 hours.",
)
provision = part(
    "db-provision",
    "Make or mend an application's database, role and grants through Pgpool, with the password that Vault has.",
)
