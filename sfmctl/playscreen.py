"""What a person sees while a play runs: on a terminal one screen, drawn anew; elsewhere plain lines on stderr."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sfmctl import render

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.live import Live

    from playbook.engine import Event
    from playbook.model import Plan

SHOWN_LINES = 12


class Progress:
    """Draws the steps of one plan and what the running one waits for."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        self.step_started = self.started
        self.current = ""
        self.detail = ""
        self.results: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if render.is_terminal(sys.stderr):
            from rich.live import Live

            self._live = Live(get_renderable=self.screen, console=render.stderr(), refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the screen to others; a second time does nothing."""
        if self._live is not None:
            self._live.stop()

    def tell(self, event: Event) -> None:
        """One event of the engine."""
        with self._lock:
            if event.kind == "step":
                self.current, self.detail, self.step_started = event.step, "", time.monotonic()
            elif event.kind == "progress":
                before, self.detail = self.detail, event.text
                if self._live is None:
                    known = set(before.splitlines())
                    event = replace(event, text="\n".join(x for x in event.text.splitlines() if x not in known))
            elif event.outcome is not None:
                self.results[event.step] = (event.outcome.result.value, event.outcome.duration_ms)
        if self._live is None:
            self.plain(event)

    def plain(self, event: Event) -> None:
        """One event as lines, for logs and pipes."""
        at = f"[{time.monotonic() - self.started:6.1f}s]"
        if event.outcome is not None:
            if event.outcome.result.value in ("unchanged", "skipped"):
                return
            first = event.text.splitlines()[0] if event.text else ""
            render.note(f"{at} {event.step}: {event.outcome.result.value}: {first}")
        elif event.text:
            for line in event.text.splitlines():
                render.note(f"{at} {event.step}: {line}")

    def screen(self) -> Group:
        """The whole in one screen: every step, and below it what the running one waits for."""
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        signs = {"changed": "[~]", "unchanged": "[=]", "skipped": "[-]", "failed": "[!]", "interrupted": "[!]"}
        parts: list[RenderableType] = []
        console_lines = self._live.console.height if self._live else SHOWN_LINES
        room = min(SHOWN_LINES, max(1, console_lines - len(self.plan.items) - 2))
        with self._lock:
            for item in self.plan.items:
                if item.step.id in self.results:
                    result, took = self.results[item.step.id]
                    parts.append(Text(f" {signs[result]} {item.step.title}  {took / 1000:.1f} s" if took else
                                      f" {signs[result]} {item.step.title}", style="dim"))  # fmt: skip
                elif item.step.id == self.current:
                    text = Text(f" {item.step.title}  {time.monotonic() - self.step_started:.0f} s", style="bold")
                    parts.append(Spinner("dots", text=text))
                    lines = self.detail.splitlines()
                    parts += [Text(f"      {line}", overflow="ellipsis", no_wrap=True) for line in lines[:room]]
                    if len(lines) > room:
                        parts.append(Text(f"      and {len(lines) - room} more"))
                else:
                    parts.append(Text(f" [ ] {item.step.title}"))
        return Group(*parts)
