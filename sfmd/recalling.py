"""Recall and Replay: a query becomes a search in a worker thread, its rows are read and checked, hits are digested.

The rule guarded here: everything of an answer follows from the request, the seq and the clock that the receipt names.
What the log cannot restore (statistics of today) never enters the digest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sfmd import digests, memories, validation
from sfmd.contract import ReplayResult
from sfmd.core import vectors
from sfmd.core.engine import ENGINE
from sfmd.core.gates import near_tie
from sfmd.core.model import F32, Cancelled, Found, Question, Terms
from sfmd.domain import ChangeRow, Explanation, Hit, Query, RecallResult, Receipt
from sfmd.errors import E, Refused
from sfmd.preparing import Embedders, bad_vector, dimension_words
from sfmd.protocols import FEW, Store
from sfmd.spaces import Ranking, RecentQuery, Space

PURGE_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Ask:
    """A query that is ready for a worker. `seq` is the state to read; `past` says that it is not the present."""

    space: Space
    query: Query
    seq: int
    now_s: float
    past: bool
    stop: threading.Event


class Recalling:
    """The synchronous part of a recall; runs in the worker pool."""

    def __init__(self, store: Store, embedders: Embedders, message_bytes: int) -> None:
        """`message_bytes`: what a reply may hold; nothing is read beyond it."""
        self._store, self._embedders, self.message_bytes = store, embedders, message_bytes

    def vector(self, space: Space, query: Query) -> F32:
        """The query's unit vector float32[D]. Refused: DIMENSION, NOT_FINITE, ZERO_VECTOR, EMPTY_TEXT, …"""
        namespace = space.namespace
        raw = query.vector
        if raw is None:
            raw = self._embedders.of(namespace).embed([query.text or ""])
        elif len(raw) != 4 * namespace.dim:
            raise Refused(E.DIMENSION, dimension_words(len(raw), namespace))
        matrix, status = vectors.normalise(raw, namespace.dim)
        if status[0] != vectors.OK:
            raise Refused(bad_vector(int(status[0]), texts=query.vector is None))
        row: F32 = matrix[0]
        return row

    def recall_all(self, asks: Sequence[Ask | Exception]) -> Iterator[RecallResult | Exception]:
        """An outcome for each, in order; those of the present share what is read. An exception stays what it is."""
        units = [ask if isinstance(ask, Exception) else self._unit(ask) for ask in asks]
        shared = self._shared(asks, units)
        for n, (ask, unit) in enumerate(zip(asks, units, strict=True)):
            if isinstance(ask, Exception):
                yield ask
            elif isinstance(unit, Exception):
                yield unit
            else:
                yield self._outcome(ask, unit, shared.get(n))

    def _unit(self, ask: Ask) -> F32 | Exception:
        try:
            if ask.stop.is_set():
                raise Cancelled
            return self.vector(ask.space, ask.query)
        except (Refused, Cancelled) as why:
            return why

    def _shared(
        self, asks: Sequence[Ask | Exception], units: Sequence[F32 | Exception]
    ) -> dict[int, Found | Cancelled]:
        """What the core finds for those of the present, where there are several; all are of one namespace."""
        mine = [
            (n, ask, unit)
            for n, (ask, unit) in enumerate(zip(asks, units, strict=True))
            if isinstance(ask, Ask) and not ask.past and not isinstance(unit, Exception)
        ]
        if len(mine) < 2:
            return {}
        questions = [
            Question(
                unit, ask.query.k, ask.now_s, ask.query.alpha, ask.query.beta, memories.where_of(ask.query.filter),
                ask.query.min_score, ask.stop.is_set,
            )
            for _, ask, unit in mine
        ]  # fmt: skip
        found = mine[0][1].space.index.search_together(questions)
        return {n: one for (n, _, _), one in zip(mine, found, strict=True)}

    def _outcome(self, ask: Ask, unit: F32, first: Found | Cancelled | None) -> RecallResult | Exception:
        """The reply from what was found together, or from a search of its own; or why there is none."""
        try:
            if isinstance(first, Cancelled):
                raise first
            if ask.stop.is_set():
                raise Cancelled
            for _ in range(PURGE_RETRIES):
                found, ranking = self._search(ask, unit) if first is None else (first, ask.space.at(first.seq))
                result, first = self._result(ask, found, ranking), None
                if result is not None:
                    if not ask.past:
                        self._remember(ask, unit, found, ranking)
                    return result
            raise Refused(E.BUSY, "memories are being purged while they are read", retry_after_s=0.1)
        except Exception as why:  # noqa: BLE001 - the caller of this one recall raises it, and no other of its group
            return why

    def _search(self, ask: Ask, unit: F32) -> tuple[Found, Ranking]:
        query = ask.query
        past = ask.space.at(ask.seq) if ask.past else None
        found = ask.space.index.search(
            unit, k=query.k, now_s=ask.now_s, alpha=query.alpha, beta=query.beta,
            seq=ask.seq if past else None, scoring=past.scoring if past else None,
            where=memories.where_of(query.filter), min_score=query.min_score, cancelled=ask.stop.is_set,
        )  # fmt: skip
        # The history is extended before the index is: what ranked at the seq that was read is already in it.
        return found, past or ask.space.at(found.seq)

    def _result(self, ask: Ask, found: Found, ranking: Ranking) -> RecallResult | None:
        """The reply; None when a purge took a row between search and read."""
        query = ask.query
        hits: list[Hit] = []
        spent, held, truncated = 0, 0, False
        for rank, (terms, row) in enumerate(self._read(found.hits, payloads=not query.omit_payload), 1):
            if row is None or (row.payload is None and not query.omit_payload):
                return None
            spent += len(memories.verified(row))
            if query.max_bytes and spent > query.max_bytes:
                truncated = True
                break
            held += row.content_bytes
            if held > self.message_bytes:
                raise too_much(self.message_bytes)
            hits.append(memories.hit_of(rank, terms, row, ranking, self._explained(ask, terms, row, ranking)))
        seq = ask.seq if ask.past else max(ask.seq, found.seq)
        receipt = self._receipt(ask, found, ranking, hits, seq) if query.receipt else None
        return RecallResult(tuple(hits), seq, ask.now_s, truncated, found.rows_total, found.rows_scored, receipt)

    def _read(self, hits: Sequence[Terms], *, payloads: bool) -> Iterator[tuple[Terms, ChangeRow | None]]:
        """Hits with their rows, best first; with payloads a few at a time, as they are asked for."""
        step = FEW if payloads else len(hits) or 1
        for at in range(0, len(hits), step):
            part = hits[at : at + step]
            rows = self._store.rows([terms.seq for terms in part], payloads=payloads)
            yield from ((terms, rows.get(terms.seq)) for terms in part)

    def _explained(self, ask: Ask, terms: Terms, row: ChangeRow, ranking: Ranking) -> Explanation | None:
        query = ask.query
        if not query.explain:
            return None
        scoring = ranking.scoring
        alpha = scoring.alpha if query.alpha is None else query.alpha
        beta = scoring.beta if query.beta is None else query.beta
        last = self._store.state_at(ranking.namespace.ns_id, row.id, ask.seq) or row
        accessed = replace(row, access_time_s=last.access_time_s, access_count=last.access_count)
        kept = memories.retention_of(accessed, ranking, ask.space.counts, ask.now_s, alpha)
        return memories.explanation_of(terms, ranking, alpha, beta, kept)

    def _receipt(self, ask: Ask, found: Found, ranking: Ranking, hits: Sequence[Hit], seq: int) -> Receipt:
        return Receipt(
            namespace=ranking.namespace.name,
            seq=seq,
            now_s=ask.now_s,
            normaliser_version=ranking.normaliser.version,
            config_digest=ranking.digest,
            request_digest=digests.query_digest(ask.query),
            engine=ENGINE,
            path=found.path,
            rows_total=found.rows_total,
            rows_scored=found.rows_scored,
            answer_digest=digests.answer_digest(hits),
        )

    def _remember(self, ask: Ask, unit: F32, found: Found, ranking: Ranking) -> None:
        scoring, query = ranking.scoring, ask.query
        ask.space.recent.append(
            RecentQuery(
                unit, min(query.k, 10), ask.now_s, scoring.alpha if query.alpha is None else query.alpha,
                scoring.beta if query.beta is None else query.beta, memories.where_of(query.filter),
            )
        )  # fmt: skip
        ask.space.near_ties.add(float(has_near_tie(found)))


def too_much(most: int) -> Refused:
    """Why a reply that one message cannot hold is not put together."""
    why = f"the hits hold more than the {most} bytes of one reply"
    return Refused(E.TOO_LARGE, f"{why}: ask for fewer (k), give a budget (max_bytes), or leave payloads out")


def has_near_tie(found: Found) -> bool:
    """Whether an answer has neighbours that another beta would part (gate G3)."""
    return near_tie([t.log2_score for t in found.hits], [float(np.log2(t.similarity)) for t in found.hits])


def replay_query(receipt: Receipt, query: Query) -> Query:
    """The query as of the receipt. Refused(RECEIPT) when the receipt was made for another one."""
    if receipt.namespace != query.namespace or receipt.request_digest != digests.query_digest(query):
        raise Refused(E.RECEIPT)
    validation.time_s("receipt.now_s", receipt.now_s)
    validation.seq("receipt.seq", receipt.seq)
    return replace(query, as_of_seq=receipt.seq, now_s=receipt.now_s, min_seq=None, receipt=True)


def replayed(receipt: Receipt, query: Query, result: RecallResult) -> ReplayResult:
    """The verdict on a recall computed anew: identical means the same answer from the same configuration."""
    new = result.receipt
    assert new is not None  # noqa: S101 - replay_query asked for one
    identical = (new.answer_digest, new.config_digest) == (receipt.answer_digest, receipt.config_digest)
    shown = replace(new, request_digest=receipt.request_digest)
    return ReplayResult(replace(result, receipt=shown if query.receipt else None), identical, ENGINE)
