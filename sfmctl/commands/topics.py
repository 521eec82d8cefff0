"""`sfmctl topics`: an application's Kafka topics, current against wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sfmctl import playrun, render
from sfmctl.commands.app import Env, JobImage, Name, aim_at
from sfmctl.exits import Exit, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playbook.wiring.reach import Reach
    from playbook.wiring.topics import TopicChange


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="An application's Kafka topics.")
    group.command("plan")(plan)
    group.command("apply")(apply)
    app.add_typer(group, name="topics")


def plan(
    name: Name,
    env: Env = "dev",
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    exit_code: playrun.ExitCode = False,
    fail_on: playrun.FailOn = playrun.FailLevel.FAIL,
    timeout: playrun.Timeout = 120.0,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Show each topic as it is and as the mode wants it: what would be made, grown or set, and what only differs."""
    from playbook.facts import Observer
    from playbook.load import packaged
    from playbook.wiring import facts
    from playbook.wiring.access import kafka_acls
    from playbook.wiring.kafka import topic_changes
    from playbook.wiring.topics import left_to_the_operator, wanted

    aim = aim_at(name, env, "", cluster, context, kubeconfig)
    with playrun.translated(aim):
        seen = Observer(aim, packaged())

        def look() -> tuple[Reach, str, Sequence[TopicChange]]:
            facts.require_env(seen)
            reach = facts.reach_of(seen)
            at = reach.endpoints()
            away = at.elsewhere("kafka")
            return reach, away, left_to_the_operator(wanted(reach.app, at)) if away else topic_changes(reach, at)

        try:
            reach, away, changes = playrun.within(timeout, look)
        finally:
            seen.forget()
    acls = sorted(map(str, kafka_acls(reach.app)))
    pending = [c for c in changes if c.action not in ("keep", "elsewhere")]
    unfit = [words for c in changes for words in c.unfit]
    render.result(
        output,
        "TopicPlan",
        json_body=lambda: {
            "application": name,
            "env": env,
            "changes": len(pending),
            "unfit": len(unfit),
            "topics": [c.as_dict() for c in changes],
            **({"elsewhere": away, "user": name, "acls": acls} if away else {}),
        },
        short_rows=lambda: [(c.wanted.name, c.action, "; ".join(words_of(c))) for c in changes],
        tables=lambda: [
            render.table(
                [render.Column("topic", no_wrap=True), render.Column("action", no_wrap=True),
                 render.Column("partitions", right=True), render.Column("RF", right=True),
                 render.Column("because", fold=True)],
                [(c.wanted.name, c.action, arrow(c, "partitions"), arrow(c, "replication_factor"),
                  "; ".join(words_of(c))) for c in changes],
            ),
            *([f"Kafka is run elsewhere ({away}): its operator makes these topics, and the SCRAM user {name} with the "
               f"password at secret/{reach.app.secret_path} and these ACLs:", *acls] if away else []),
        ],
    )  # fmt: skip
    found = [Exit.CHANGES] if exit_code and pending else []
    return worst([*found, *([Exit.WARNINGS] if unfit and fail_on is playrun.FailLevel.WARNING else [])])


def words_of(change: TopicChange) -> list[str]:
    """What would change, and what differs and is left, with its code."""
    return [*change.words, *(f"{what} [{code}]" for code, what in change.unfit)]


def arrow(change: TopicChange, field: str) -> str:
    """Current and wanted of one number."""
    wanted = getattr(change.wanted, field)
    current = getattr(change.current, field) if change.current else None
    return str(wanted) if current in (None, wanted) else f"{current} > {wanted}"


def apply(
    name: Name,
    env: Env = "dev",
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    sfmctl_image: JobImage = "",
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Make, grow and set the topics as planned; a replication factor or too many partitions are left as they are."""
    aim = aim_at(name, env, "", cluster, context, kubeconfig, sfmctl_image=sfmctl_image)
    return playrun.run_play("topics-apply", aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code)
