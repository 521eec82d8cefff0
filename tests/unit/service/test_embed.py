"""Text to vectors: the same bytes everywhere, nearer where words are shared, zeros for no words."""

from __future__ import annotations

import math
from hashlib import blake2b, sha256

import numpy as np
import pytest

from sfmd.embed import DIM, HashV1, available
from sfmd.errors import E, Refused

GOLDEN = "the quick brown fox jumps over the lazy dog, twice: the quick brown fox"


def embedded(*texts: str) -> np.ndarray:
    return np.frombuffer(HashV1().embed(texts), dtype="<f4").reshape(len(texts), DIM)


def by_the_definition(words: dict[str, int]) -> np.ndarray:
    """Signed feature hashing word for word, without a cache and without arrays."""
    tf: dict[tuple[int, int], int] = {}
    for word, count in words.items():
        bordered = f" {word} "
        grams = [bordered[i : i + n] for n in (3, 4, 5) for i in range(len(bordered) - n + 1)]
        for feature in [b"w" + word.encode(), *(b"c" + gram.encode() for gram in grams)]:
            value = int.from_bytes(blake2b(feature, digest_size=8).digest(), "little")
            slot = (value % DIM, 1 if value >> 63 else -1)
            tf[slot] = tf.get(slot, 0) + count
    row = [0.0] * DIM
    for (column, sign), count in tf.items():
        row[column] += sign * (1 + math.log(count))
    length = math.sqrt(math.fsum(x * x for x in row))
    return np.array([x / length for x in row])


def test_it_is_the_definition() -> None:
    words = {"the": 3, "quick": 2, "brown": 2, "fox": 2, "jumps": 1, "over": 1, "lazy": 1, "dog": 1, "twice": 1}
    assert np.allclose(embedded(GOLDEN)[0], by_the_definition(words), atol=1e-7)


def test_the_bytes_are_the_ones_that_namespaces_were_made_with() -> None:
    rounded = np.round(embedded(GOLDEN).astype(np.float64), 5) + 0.0
    assert sha256(rounded.tobytes()).hexdigest()[:16] == "3c322e0e06e3a1cc"


def test_length_is_one_and_no_word_is_zero() -> None:
    vectors = embedded("one", "two words", "", " \n ", "?! …", "é" * 500)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    assert np.allclose(lengths[[0, 1, 5]], 1.0, atol=1e-6)
    assert (lengths[2:5] == 0.0).all()


def test_case_width_and_order_of_words_do_not_matter() -> None:
    vectors = embedded("Green Build", "build green", "ＧＲＥＥＮ build")
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[0] == vectors[2]).all()


def test_shared_words_and_stems_are_nearer() -> None:
    query, stem, other = embedded("where do cats sit", "a cat sitting on mats", "income tax is due")
    assert query @ stem > query @ other


def test_a_batch_is_its_texts_one_by_one() -> None:
    texts = ["a b c", "", "long " * 300]
    assert HashV1().embed(texts) == b"".join(HashV1().embed([t]) for t in texts)


def test_wordllama_loads_from_its_wheel_and_knows_meaning() -> None:
    (embedder,) = available(["wordllama"])
    out = np.frombuffer(embedder.embed(["a happy dog", "a joyful puppy", "tax law", ""]), dtype="<f4")
    vectors = out.reshape(4, embedder.dim).astype(np.float64)
    assert not vectors[3].any()
    near, far = (vectors[0] @ v / np.linalg.norm(v) for v in vectors[1:3])
    assert near > far
    assert embedder.fingerprint.startswith("wordllama/256/")


def test_an_unknown_embedder_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="'word2vec'") as refused:
        available(["word2vec"])
    assert refused.value.code is E.CONFIG
