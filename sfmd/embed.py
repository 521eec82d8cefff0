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

from sfmd.domain import Embedder
from sfmd.errors import E, Refused

DIM = 1024
SHORTEST, LONGEST = 3, 5
WORD_CHARS = 64
CACHED_WORDS = 131_072
_WORD = re.compile(r"\w+")


def _slot(kind: bytes, feature: str) -> tuple[int, int]:
    """The column of a feature and its sign, by BLAKE2b of kind and text."""
    value = int.from_bytes(blake2b(kind + feature.encode(), digest_size=8).digest(), "little")
    return value % DIM, 1 if value >> 63 else -1


@lru_cache(maxsize=CACHED_WORDS)
def _features(word: str) -> tuple[tuple[int, int], ...]:
    """(column, sign) of a word and of every character 3-, 4- and 5-gram of it between word borders."""
    slots = [_slot(b"w", word)]
    bordered = f" {word} "
    for size in range(SHORTEST, LONGEST + 1):
        slots += [_slot(b"c", bordered[at : at + size]) for at in range(len(bordered) - size + 1)]
    return tuple(slots)


class HashV1:
    """Signed feature hashing of words and character 3-5-grams, sublinear term frequency, 1024 dimensions, L2."""

    fingerprint = f"hash-v1/{DIM}"
    dim = DIM

    def embed(self, texts: Sequence[str]) -> bytes:
        """len(texts) unit vectors of 1024 little-endian float32; a text without a word gives zeros."""
        out = np.zeros((len(texts), DIM), dtype=np.float64)
        for row, text in enumerate(texts):
            self._fill(out[row], text)
        lengths = np.sqrt(np.square(out).sum(axis=1, keepdims=True))
        np.divide(out, lengths, out=out, where=lengths > 0.0)
        return out.astype("<f4").tobytes()

    @staticmethod
    def _fill(row: np.ndarray[Any, np.dtype[np.float64]], text: str) -> None:
        """Add 1 + ln(tf) with the sign of each feature to its column; tf counts the feature in the text."""
        words = Counter(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
        tf: Counter[tuple[int, int]] = Counter()
        for word, count in words.items():
            for part in range(0, len(word), WORD_CHARS):
                for slot in _features(word[part : part + WORD_CHARS]):
                    tf[slot] += count
        if not tf:
            return
        columns = np.fromiter((slot[0] for slot in tf), dtype=np.intp, count=len(tf))
        values = np.fromiter(
            (slot[1] * (1.0 + math.log(count)) for slot, count in tf.items()), dtype=np.float64, count=len(tf)
        )
        np.add.at(row, columns, values)


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
