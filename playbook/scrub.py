"""Cutting the values of a namespace's Secrets out of what its pods wrote, before a person or a file gets it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from playbook.kube import Reader

SHORTEST_SECRET = 6


def secret_values(reader: Reader, namespace: str) -> list[str]:
    """Every value of every Secret of the namespace that is long enough to be told from a word, longest first."""
    values: set[str] = set()
    for secret in reader.items(f"/api/v1/namespaces/{namespace}/secrets"):
        for encoded in (secret.get("data") or {}).values():
            text = base64.b64decode(encoded).decode(errors="replace").strip()
            values |= {part for part in (text, *text.splitlines()) if len(part) >= SHORTEST_SECRET}
    return sorted(values, key=len, reverse=True)


def scrubbed(text: str, values: Iterable[str]) -> str:
    """`text` without those values, cut out in one pass so that a mark is never cut again."""
    wanted = sorted(set(values), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, wanted)), "<secret>", text) if wanted else text
