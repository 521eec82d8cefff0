"""What every verb that talks to the daemon shares: the connection's options, and a client that raises faults.

`linked` adds the options to a command's signature, so that each verb lists only what is its own, and the command gets
a `Link`: the namespace, the output form, and a client opened on demand.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from sfmctl import connection, render
from sfmctl.codes import C
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from sfmd.rpc.client import Client

PANEL = "Connection: flags beat SFM_* variables, which beat the profile"


def complete_namespace(ctx: typer.Context, _: list[str], incomplete: str) -> list[str]:
    """Namespaces for the shell's completion: asks the daemon, and offers none when it does not answer at once."""
    try:
        link = Link(connection.resolve(_given(ctx.params), os.environ, timeout_s=1.0), render.Output.SHORT)
        with link.client() as client:
            return [n.name for n in client.list_namespaces().namespaces if n.name.startswith(incomplete)]
    except Fault:
        return []


NamespaceOption = Annotated[
    str,
    typer.Option("--namespace", "-n", help="The namespace. [SFM_NAMESPACE]", rich_help_panel=PANEL,
                 autocompletion=complete_namespace),
]  # fmt: skip
ProfileOption = Annotated[str, typer.Option("--profile", help="A profile's name. [SFM_PROFILE]", rich_help_panel=PANEL)]
AddressOption = Annotated[
    str, typer.Option("--address", help="host:port of the daemon. [SFM_ADDRESS]", rich_help_panel=PANEL)
]
CaOption = Annotated[
    str,
    typer.Option("--ca-file", "--ca", help="The CA's certificate, a PEM file. [SFM_CA_FILE]", rich_help_panel=PANEL),
]
TokenFileOption = Annotated[
    str, typer.Option("--token-file", help="A file with the bearer token. [SFM_TOKEN_FILE]", rich_help_panel=PANEL)
]
ServerNameOption = Annotated[
    str,
    typer.Option("--server-name", help="The name in the certificate, if another. [SFM_SERVER_NAME]",
                 rich_help_panel=PANEL),
]  # fmt: skip
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", help="Seconds for a call; 30 when not given. [SFM_TIMEOUT]", min=0.001,
                 rich_help_panel=PANEL),
]  # fmt: skip

SHARED: dict[str, tuple[Any, Any]] = {
    "output": (render.OutputOption, render.Output.TABLE),
    "namespace": (NamespaceOption, ""),
    "profile": (ProfileOption, ""),
    "address": (AddressOption, ""),
    "ca_file": (CaOption, ""),
    "token_file": (TokenFileOption, ""),
    "server_name": (ServerNameOption, ""),
    "timeout": (TimeoutOption, None),
}


def _given(params: dict[str, Any]) -> dict[str, str]:
    return {name: params.get(name) or "" for name in connection.FIELDS}


class Link:
    """One command's way to the daemon."""

    def __init__(self, found: connection.Connection, output: render.Output) -> None:
        self.connection = found
        self.output = output

    @property
    def namespace(self) -> str:
        """The namespace in use. Raises a usage fault when none was said anywhere."""
        if not self.connection.profile.namespace:
            raise C.USAGE.fault(
                "which namespace?", why="neither -n, SFM_NAMESPACE nor the profile names one",
                next_step="add -n NAME; sfmctl memory namespace list shows them",
            )  # fmt: skip
        return self.connection.profile.namespace

    @contextmanager
    def client(self, *, stream_s: float | None = None) -> Iterator[Client]:
        """An open client whose failures are faults with a stable code. `stream_s` bounds uploads and exports."""
        try:
            from sfmd.rpc.client import CallFailed, Client, Timeouts
        except ImportError as error:
            raise C.EXTRA.fault("the gRPC client is not installed", why=str(error)) from error
        found = self.connection
        timeouts = Timeouts(call_s=found.timeout_s, **({} if stream_s is None else {"stream_s": stream_s}))
        try:
            with Client(found.profile, timeouts=timeouts) as client:
                yield client
        except CallFailed as failed:
            if isinstance(failed.__cause__, UnicodeEncodeError):  # the error boundary knows which word it was
                raise failed.__cause__ from None
            raise connection.fault_of(failed, found) from failed


def linked(*without: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the shared options (but those named in `without`) and, as its first argument, a `Link`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = list(inspect.signature(command).parameters.values())[1:]
        hints = get_type_hints(command, include_extras=True)
        shared = {name: option for name, option in SHARED.items() if name not in without}

        def run(**values: Any) -> Any:
            # An option that the command has itself, of the same name, is not taken away from it.
            asked = {n: values.pop(n, default) if n in shared else default for n, (_, default) in SHARED.items()}
            found = connection.resolve(_given(asked), os.environ, profile=asked["profile"], timeout_s=asked["timeout"])
            return command(Link(found, asked["output"]), **values)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in own]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in shared.items()
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
        return run

    return decorate


def confirmed(question: str, yes: bool) -> None:
    """Ask before what cannot be undone. Raises a fault where nobody can answer, and Abort on a no."""
    if yes:
        return
    if not (render.is_terminal(sys.stdin) and render.is_terminal(sys.stderr)):
        raise C.CONFIRM.fault("nobody is here to answer", why=question)
    typer.confirm(question, abort=True, err=True)
