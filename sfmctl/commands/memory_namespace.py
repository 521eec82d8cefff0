"""`sfmctl memory namespace create|configure|list`: what a namespace scores by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sfmctl import asked, memory_views, quantities, render
from sfmctl.link import Link, linked

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits, - _ and dots.")]
HalfLifeOption = Annotated[
    list[str] | None,
    typer.Option("--half-life", metavar="CLASS=DURATION", help="May be repeated: news=7d, notes=30d, pinned=inf."),
]
FeatureOption = Annotated[
    list[str] | None,
    typer.Option("--feature", metavar="NAME=WEIGHT", help="A feature channel; the weights sum to 1 at most."),
]
AlphaOption = Annotated[float | None, typer.Option("--alpha", help="Exponent of importance, >= 0; default 1.")]
BetaOption = Annotated[float | None, typer.Option("--beta", help="Exponent of similarity, > 0; default 1.")]


def register(memory: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Make, configure and list namespaces.", no_args_is_help=True)
    group.command("create")(create)
    group.command("configure")(configure)
    group.command("list")(list_)
    memory.add_typer(group, name="namespace")


def _classes(words: list[str] | None) -> dict[str, float]:
    return asked.option("--half-life", lambda: quantities.pairs(words or [], quantities.duration_s))


def _features(words: list[str] | None) -> dict[str, float]:
    return asked.option("--feature", lambda: quantities.pairs(words or [], float))


def _show(link: Link, namespaces: list[pb.Namespace], kind: str) -> None:
    fields = [memory_views.namespace_fields(n) for n in namespaces]
    render.result(
        link.output,
        kind,
        json_body=lambda: {"namespaces": fields} if kind == "Namespaces" else {"namespace": fields[0]},
        short_rows=lambda: [[n.name] for n in namespaces],
        tables=lambda: [memory_views.namespaces_table(namespaces)],
    )


@linked("namespace")
def create(
    link: Link,
    name: NameArgument,
    dim: Annotated[int, typer.Option("--dim", min=0, max=4096, help="Dimension; 0 takes the embedder's.")] = 0,
    embedder: Annotated[
        str, typer.Option("--embedder", help="hash-v1 or wordllama; leave it out and give --dim for vectors only.")
    ] = "",
    half_life: HalfLifeOption = None,
    default_class: Annotated[str, typer.Option("--default-class", help="Default: the first class.")] = "",
    feature: FeatureOption = None,
    alpha: AlphaOption = None,
    beta: BetaOption = None,
) -> None:
    """Make a namespace. The same command again answers as the first time.

    Without --dim and --embedder it embeds text with hash-v1; without --half-life nothing ages.
    """
    embedder = embedder or ("" if dim else "hash-v1")
    with link.client() as client:
        made = client.create_namespace(name, dim=dim, embedder=embedder, half_lives=_classes(half_life),
                                       default_half_life=default_class, features=_features(feature), alpha=alpha,
                                       beta=beta)  # fmt: skip
    _show(link, [made], "Namespace")


@linked("namespace")
def configure(
    link: Link,
    name: NameArgument,
    half_life: HalfLifeOption = None,
    default_class: Annotated[str, typer.Option("--default-class", help="The class of memories that name none.")] = "",
    feature: FeatureOption = None,
    alpha: AlphaOption = None,
    beta: BetaOption = None,
    refuse_normaliser_updates: Annotated[
        bool | None,
        typer.Option("--refuse-normaliser-updates/--allow-normaliser-updates",
                     help="Keep the present normalisation of importance, or let it follow the data."),
    ] = None,
    expected_config_version: Annotated[
        int | None, typer.Option("--expected-config-version", min=1, help="Change this version only.")
    ] = None,
) -> None:  # fmt: skip
    """Change how a namespace scores; only what is given changes. Replays of earlier recalls use the old values."""
    with link.client() as client:
        made = client.configure_namespace(
            name, half_lives=_classes(half_life), default_half_life=default_class or None,
            features=_features(feature), alpha=alpha, beta=beta,
            refuse_normaliser_updates=refuse_normaliser_updates, expected_config_version=expected_config_version,
        )  # fmt: skip
    _show(link, [made], "Namespace")


@linked("namespace")
def list_(link: Link) -> None:
    """List the namespaces that the token reaches."""
    with link.client() as client:
        found = list(client.list_namespaces().namespaces)
    _show(link, found, "Namespaces")
