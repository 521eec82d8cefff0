"""Text to vectors: the built-in `hash-v1`, and `wordllama` behind its extra. Neither downloads anything.

`hash-v1` is lexical and says so: it finds shared words and letter runs, not meaning. It is deterministic over machines
and versions, so a namespace's fingerprint is all that is needed to embed a query years later.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfmd.errors import E, Refused
from sfmd.protocols import Embedder

DIM = 1024
SHORTEST, LONGEST = 3, 5
WORD_CHARS = 64
CACHED_WORDS = 131_072
_WORD = re.compile(r"\w+")


def _slot(kind: bytes, feature: str) -> int:
    """The signed column of a feature, by BLAKE2b of kind and text: 0 to DIM - 1 add, DIM to 2 DIM - 1 subtract."""
    value = int.from_bytes(blake2b(kind + feature.encode(), digest_size=8).digest(), "little")
    return value % DIM + (DIM if value >> 63 == 0 else 0)


@lru_cache(maxsize=CACHED_WORDS)
def _features(word: str) -> NDArray[np.int32]:
    """Signed columns of a word and of every character 3-, 4- and 5-gram of it between word borders."""
    slots = [_slot(b"w", word)]
    bordered = f" {word} "
    for size in range(SHORTEST, LONGEST + 1):
        slots += [_slot(b"c", bordered[at : at + size]) for at in range(len(bordered) - size + 1)]
    return np.array(slots, dtype=np.int32)


def _sublinear(counts: NDArray[Any]) -> NDArray[np.float64]:
    """1 + ln(tf), 0 for none, by the C library's logarithm: numpy's own differs in its last bits between CPUs."""
    seen = np.flatnonzero(counts)
    counts[seen] = [1.0 + math.log(count) for count in counts[seen].tolist()]
    return counts


class HashV1:
    """Signed feature hashing of words and character 3-5-grams, sublinear term frequency, 1024 dimensions, L2."""

    fingerprint = f"hash-v1/{DIM}"
    dim = DIM

    def embed(self, texts: Sequence[str]) -> bytes:
        """len(texts) unit vectors of 1024 little-endian float32; a text without a word gives zeros."""
        return b"".join(self._one(text).astype("<f4").tobytes() for text in texts)

    @staticmethod
    def _one(text: str) -> NDArray[np.float64]:
        """float64[1024]: per signed column 1 + ln(tf), columns that subtract taken from those that add, length 1."""
        words = Counter(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
        parts = Counter({w[at : at + WORD_CHARS]: 0 for w in words for at in range(0, len(w), WORD_CHARS)})
        for word, count in words.items():
            for at in range(0, len(word), WORD_CHARS):
                parts[word[at : at + WORD_CHARS]] += count
        if not parts:
            return np.zeros(DIM)
        slots = [_features(part) for part in parts]
        weights = np.repeat(np.fromiter(parts.values(), np.float64, len(parts)), [len(s) for s in slots])
        tf = _sublinear(np.bincount(np.concatenate(slots), weights=weights, minlength=2 * DIM))
        row: NDArray[np.float64] = tf[:DIM] - tf[DIM:]
        length = math.sqrt(math.fsum((row * row).tolist()))
        return row / length if length > 0.0 else row


class WordLlamaEmbedder:
    """Averaged static token embeddings of wordllama (256 dimensions); the weights come inside its wheel."""

    dim = 256

    def __init__(self) -> None:
        from importlib.metadata import version  # noqa: PLC0415

        import wordllama  # noqa: PLC0415 - behind the extra

        # The wheel keeps its tokenizer where the library looks for cached files, so the package is the cache.
        package = Path(wordllama.__file__).parent
        self._model = wordllama.WordLlama.load(dim=self.dim, cache_dir=package, disable_download=True)
        self.fingerprint = f"wordllama/{self.dim}/{'.'.join(version('wordllama').split('.')[:2])}"

    def embed(self, texts: Sequence[str]) -> bytes:
        """len(texts) vectors of 256 little-endian float32; a text without a known token gives zeros."""
        return bytes(np.asarray(self._model.embed(list(texts), norm=False), dtype="<f4").tobytes())


def available(names: Sequence[str]) -> list[Embedder]:
    """The embedders of those names. Raises Refused(CONFIG) for an unknown one or a missing extra."""
    made: list[Embedder] = []
    for name in names:
        if name == "hash-v1":
            made.append(HashV1())
        elif name == "wordllama":
            if find_spec("wordllama") is None:
                raise Refused(
                    E.CONFIG,
                    "SOMA_EMBEDDERS names wordllama, which is not installed: "
                    "pip install 'soma-fractal-memory[daemon,wordllama]'",
                )
            made.append(WordLlamaEmbedder())
        else:
            raise Refused(E.CONFIG, f"SOMA_EMBEDDERS names {name!r}; hash-v1 and wordllama exist")
    return made
