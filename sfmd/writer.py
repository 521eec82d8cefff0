"""The write path's one thread: a bounded queue in front, one transaction per group, the core after the commit.

The rule guarded here: a reply means that it is on disk and visible. Whatever fails, nobody is told OK; and what the
store committed is in the core before its reply leaves, or the daemon stops answering as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import structlog

from sfmd.commands import Command, StoreCommand
from sfmd.errors import E, Refused
from sfmd.group import Delta, Group
from sfmd.measure import Meters
from sfmd.protocols import Clock, Store, WriteTx
from sfmd.spaces import Space

log = structlog.get_logger(__name__)

Answer = tuple[Command, Any, Exception | None]


@dataclass(frozen=True, slots=True)
class GroupCommit:
    """When a group is flushed: at `rows`, at `delay_s` old, or at once when nobody else is expected. Beside its first
    command it holds at most `size_bytes`.
    """

    rows: int = 4096
    delay_s: float = 0.002
    size_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """A normaliser version that was just cut, for whoever measures its shock."""

    space: Space
    seq: int
    delta: Delta


class Applied:
    """The seq up to which everything is visible, and a way to wait for more without polling. Loop-side."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self._more = asyncio.Event()
        self._stopped = False

    def advance(self, seq: int) -> None:
        """Wake everybody who waits."""
        self.seq = max(self.seq, seq)
        more, self._more = self._more, asyncio.Event()
        more.set()

    async def after(self, seq: int) -> int:
        """Return once something after `seq` is visible."""
        while self.seq <= seq:
            if self._stopped:
                raise Refused(E.STOPPING)
            await self._more.wait()
        return self.seq

    def stop(self) -> None:
        """Wake everybody who waits for more than there will be. Refused(STOPPING) for them."""
        self._stopped = True
        self.advance(self.seq)


class Writer:
    """Owns the store's writing side and every change of an index."""

    def __init__(
        self, store: Store, clock: Clock, meters: Meters, *, policy: GroupCommit, queue_items: int,
        queue_bytes: int, topic: str = "", on_cut: Callable[[Cut], None] | None = None,
        on_commit: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self._store, self._clock, self._meters = store, clock, meters
        self._policy, self._topic = policy, topic
        self._queue_items, self._queue_bytes = queue_items, queue_bytes
        self._on_cut, self._on_commit = on_cut, on_commit
        self._groups: SimpleQueue[list[Command] | None] = SimpleQueue()
        self._pending: deque[Command] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._rested = asyncio.Event()
        self._waiting = 0
        self._waiting_bytes = 0
        self._room = asyncio.Event()
        self._crowd = 1
        self._closing = False
        self._last_at_s = 0.0
        self.failure = ""
        """Why the writer itself can write nothing any more; empty while it is sound."""
        self.applied_seq = store.last_seq()
        self.applied = Applied(self.applied_seq)
        last = store.changes(self.applied_seq, self.applied_seq, payloads=False)
        self._last_at_s = last[0].at_s if last else 0.0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="writer")
        self._thread.start()

    @property
    def problem(self) -> str:
        """Why nothing can be written any more, here or in the store; empty while writes are taken."""
        return self.failure or self._store.problem

    @property
    def waiting(self) -> int:
        """Items in the queue or being committed."""
        return self._waiting

    def put(self, command: Command) -> asyncio.Future[Any]:
        """Queue a command; the future has its reply. Refused: BUSY, STOPPING, STORE_DOWN, and what the command decides.

        A caller that goes away does not take back what is being committed: others' replies ride on the same group.
        """
        if self._full(command):
            raise Refused(E.BUSY, "the write queue is full", retry_after_s=0.1)
        future = command.future = self._loop.create_future()
        self._waiting += command.size
        self._waiting_bytes += command.size_bytes
        self._pending.append(command)
        self._consider()
        return future

    async def room(self, command: Command) -> None:
        """Wait for room in a full queue: a stream that was admitted is slowed down, not broken off."""
        while self._full(command):
            self._room.clear()
            await self._room.wait()

    def _full(self, command: Command) -> bool:
        if self._closing:
            raise Refused(E.STOPPING)
        if self.failure:
            raise Refused(E.STORE_DOWN, self.failure)
        return self._waiting > 0 and (
            self._waiting + command.size > self._queue_items
            or self._waiting_bytes + command.size_bytes > self._queue_bytes
        )

    async def close(self) -> None:
        """Commit what was taken, then end the thread."""
        self._closing = True
        self._room.set()
        while self._pending or self._busy:
            self._consider()
            await self._rested.wait()
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)

    def _consider(self) -> None:
        """Hand a group to the idle thread once it is full, the crowd is there, or the first of it has waited enough.

        On the loop, so that the thread is woken once for a group and not once for each of its commands.
        """
        if self._busy or not self._pending:
            return
        if self._closing or len(self._pending) >= self._crowd or self._rows_pending() >= self._policy.rows:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._policy.delay_s, self._hand_over)

    def _rows_pending(self) -> int:
        return sum(command.size for command in self._pending) if len(self._pending) > 1 else self._pending[0].size

    def _hand_over(self) -> None:
        """Give the thread the next group, in the order of arrival."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy or not self._pending:
            return
        policy, group = self._policy, [self._pending.popleft()]
        rows, size_bytes = group[0].size, group[0].size_bytes
        while self._pending:
            rows += self._pending[0].size
            size_bytes += self._pending[0].size_bytes
            if rows > policy.rows or size_bytes > policy.size_bytes:
                break
            group.append(self._pending.popleft())
        # As many seem to write at the same time as came together lately.
        self._crowd = max(len(group), self._crowd - 1)
        self._busy = True
        self._rested.clear()
        self._groups.put(group)

    def _run(self) -> None:
        while (group := self._groups.get()) is not None:
            parts = _parts(group)
            for part in parts:
                try:
                    answers = self._commit_part(part)
                except Exception as bug:  # nobody may wait for ever: the group is refused, and every later one
                    log.exception("writer_failed")
                    self.failure = "the writer failed; restart the daemon"
                    answers = [(command, None, bug) for command in part]
                self._answer(answers, last=part is parts[-1])

    def _commit_part(self, commands: list[Command]) -> list[Answer]:
        started = time.monotonic()
        try:
            StoreCommand.prepare_together(commands)
            group, answers = self._store.write(lambda tx: self._decide(tx, commands))
        except Refused as refused:
            if refused.code is E.STORE_DOWN or len(commands) == 1:
                log.error("commit_failed", code=refused.code.code, reason=refused.message, commands=len(commands))
                return [(command, None, refused) for command in commands]
            return [answer for command in commands for answer in self._commit_part([command])]
        except Exception as bug:
            if len(commands) == 1:
                log.exception("write_failed")
                return [(commands[0], None, bug)]
            return [answer for command in commands for answer in self._commit_part([command])]
        if group.rows:
            self._apply(group)
            self._meters.committed(len(group.rows), time.monotonic() - started)
        return answers

    def _decide(self, tx: WriteTx, commands: list[Command]) -> tuple[Group, list[Answer]]:
        group = Group(tx, max(self._clock(), self._last_at_s), self._topic)
        for command in commands:
            command.look_up(group)
        group.read()
        answers: list[Answer] = []
        for command in commands:
            try:
                answers.append((command, command.decide(group), None))
            except Refused as refused:
                answers.append((command, None, refused))
        group.cut_normalisers()
        group.write()
        return group, answers

    def _apply(self, group: Group) -> None:
        """Make a committed group visible. A core that cannot follow the log ends the writing: never a wrong answer."""
        first, last = group.rows[0].seq, group.rows[-1].seq
        self._last_at_s = group.at_s
        try:
            if first != self.applied_seq + 1:  # a commit that was reported as failed is in the log after all
                raise ValueError(f"the log went on at {first}, the core is at {self.applied_seq}")
            for delta in group.deltas.values():
                self._apply_delta(delta, last)
            for then in group.committed:
                then()
        except Exception:
            log.exception("core_left_behind", seq=last)
            self.failure = "the core could not follow the log; restart the daemon to rebuild it"
            return
        self.applied_seq = last

    def _apply_delta(self, delta: Delta, last: int) -> None:
        space = delta.space
        if delta.ranking is not None:
            space.history.append(delta.ranking)
        if delta.normaliser is not None:
            space.normaliser = delta.normaliser
        if delta.erased:
            space.index.erase(delta.erased)
        scoring = delta.ranking.scoring if delta.ranking is not None else None
        space.index.apply(last, delta.rows(), delta.ended, scoring)
        if delta.cut is not None and self._on_cut is not None:
            self._on_cut(Cut(space, last, delta))

    def _answer(self, answers: list[Answer], *, last: bool) -> None:
        self._loop.call_soon_threadsafe(self._finish, answers, self.applied_seq, last)
        if self._on_commit is not None:
            self._on_commit()

    def _finish(self, answers: list[Answer], seq: int, last: bool) -> None:
        """On the loop: one wake-up for a whole group. After its `last` part the thread is idle again."""
        if seq > self.applied.seq:
            self.applied.advance(seq)
        self._room.set()
        for command, reply, error in answers:
            self._waiting -= command.size
            self._waiting_bytes -= command.size_bytes
            if command.future.done():
                continue
            if error is not None:
                command.future.set_exception(error)
            elif self.failure:
                command.future.set_exception(Refused(E.STORE_DOWN, self.failure))
            else:
                command.future.set_result(reply)
        if last:
            self._busy = False
            self._rested.set()
            self._consider()


def _parts(commands: list[Command]) -> list[list[Command]]:
    """The group cut where a command wants a transaction of its own."""
    parts: list[list[Command]] = []
    for command in commands:
        if parts and not command.alone and not parts[-1][-1].alone:
            parts[-1].append(command)
        else:
            parts.append([command])
    return parts
