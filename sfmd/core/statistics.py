"""What Stats and metrics show of an index, measured from its arrays."""

from __future__ import annotations

import math

import numpy as np

from sfmd.core.model import NEVER, IndexStats
from sfmd.core.normaliser import normalised_array, quantiles
from sfmd.core.state import State

SAMPLE = 4096


def stats_of(state: State, norm_error: float) -> IndexStats:
    """Statistics of one state; see IndexStats."""
    blocks = [s.data for s in state.segments] + [state.tail.block(state.tail_n)]
    live = [b.ended == NEVER for b in blocks]
    n_live = sum(int(np.count_nonzero(m)) for m in live)
    r = np.concatenate([b.r[m] for b, m in zip(blocks, live, strict=True)])
    ageing = np.array([not math.isinf(t) for t in state.scoring.half_life_s])
    decaying = sum(int(np.count_nonzero(ageing[b.half_life[m]])) for b, m in zip(blocks, live, strict=True))
    sample = r[:: max(1, r.size // SAMPLE)]
    raw = quantiles(sorted(sample[~np.isnan(sample)].tolist()))
    return IndexStats(
        live=n_live,
        rows=sum(len(b) for b in blocks),
        tail_rows=state.tail_n,
        segments=len(state.segments),
        norm_error_max=norm_error,
        decay_active_ratio=decaying / n_live if n_live else 0.0,
        importance_raw=raw,
        importance_normalised=quantiles(sorted(normalised_array(sample, state.scoring.normaliser).tolist())),
        bytes_resident=sum(b.v.nbytes + b.ended.nbytes * 6 for b in blocks)
        + sum(s.heads.chunks.nbytes for s in state.segments if s.heads is not None),
    )
