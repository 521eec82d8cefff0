"""Cutting the values of a namespace's Secrets out of what its pods wrote, before a person or a file gets it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

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


def forms(value: str) -> set[str]:
    """A value as it may stand in a text: as it is, in base64, in a URL, inside JSON."""
    data = value.encode()
    coded = {one.decode().rstrip("=") for one in (base64.b64encode(data), base64.urlsafe_b64encode(data))}
    return {value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1], *coded}


def scrubbed(text: str, values: Iterable[str]) -> str:
    """`text` without those values in any of their forms, cut out in one pass so that a mark is never cut again."""
    wanted = sorted({form for value in values for form in forms(value)}, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, wanted)), "<secret>", text) if wanted else text
