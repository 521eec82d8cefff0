"""`sfmctl doctor`: is what the playbook needs on this machine, does the cluster answer, can the daemon be reached."""

from __future__ import annotations

import time

import typer

from sfmctl import playrun, render
from sfmctl.exits import worst


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    output: render.OutputOption = render.Output.TABLE,
    timeout: playrun.Timeout = 30.0,
    fail_on: playrun.FailOn = playrun.FailLevel.FAIL,
) -> int:
    """Check the programs, the Docker engine and the daemon's reach on this machine."""
    from playbook import check
    from playbook.actions import registry
    from sfmctl import checks, daemon_probe

    started = time.monotonic()
    aim = playrun.target(need_infra=False)
    with playrun.probing(aim) as probe:
        specs = [s for s in probe.book.checks.values() if s.category == "tools"] + [daemon_probe.SPEC]
        functions = {daemon_probe.SPEC.probe: daemon_probe.probe}
        results = check.run(probe, specs, lambda name: functions.get(name) or registry.probe(name), timeout_s=timeout)
        codes = playrun.check_exits(results, probe.book, fail_on)
    code = worst(codes)
    checks.show(results, output, "Doctor", round((time.monotonic() - started) * 1000), code)
    return code
