"""Waivers: known failures that must not stop a pipeline for a while. Each has a reason and a day until which it holds.

A waiver demotes a failure to a warning and says so; it never hides it, nor what is asked after it, and after its day
the failure is one again.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import yaml

from playbook.model import Check, Status
from playbook.trouble import Trouble

FIELDS = {"check", "reason", "until"}


@dataclass(frozen=True, slots=True)
class Waiver:
    """Checks whose id fits `check` may fail until the end of the day `until` (UTC), because of `reason`."""

    check: str
    reason: str
    until: datetime.date


def load(path: Path, checks: Collection[str]) -> tuple[Waiver, ...]:
    """The waivers of a YAML file: a list of {check, reason, until: YYYY-MM-DD}; Trouble names what is wrong in it.

    Each has to fit one of `checks`: with a misspelt name it would excuse nothing, and nobody would be told.
    """
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong(path, error.strerror or str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise wrong(path, " ".join(str(error).split())) from error
    if not isinstance(listed, list):
        raise wrong(path, "it is not a list of waivers")
    return tuple(one(path, n, item, checks) for n, item in enumerate(listed, 1))


def one(path: Path, n: int, item: object, checks: Collection[str]) -> Waiver:
    """The n-th waiver."""
    if not isinstance(item, dict) or set(item) != FIELDS:
        raise wrong(path, f"waiver {n} needs exactly {', '.join(sorted(FIELDS))}")
    check, reason, until = item["check"], item["reason"], item["until"]
    if not isinstance(check, str) or not isinstance(reason, str) or not reason.strip():
        raise wrong(path, f"waiver {n} needs a check and a reason in words")
    if not isinstance(until, datetime.date) or isinstance(until, datetime.datetime):
        raise wrong(path, f"waiver {n}: until is a day, as 2027-01-31")
    if not any(fnmatch(name, check) for name in checks):
        raise wrong(path, f"waiver {n}: no check fits {check}; there are {', '.join(checks)}")
    return Waiver(check, " ".join(reason.split()), until)


def wrong(path: Path, why: str) -> Trouble:
    """The file cannot be used."""
    return Trouble("SFM-CLI-030", f"the waiver file {path} is not valid", why=why)


def excused(check: Check, waivers: Sequence[Waiver], today: datetime.date) -> Check:
    """The record, a waived failure as a warning; a waiver whose day has passed is named on the failure it no longer
    covers."""
    mine = [w for w in waivers if fnmatch(check.id, w.check)] if check.status is Status.FAIL else []
    holds = next((w for w in mine if w.until >= today), None)
    if holds is not None:
        said = f"{check.observed} (waived until {holds.until}: {holds.reason})"
        return replace(check, status=Status.WARN, observed=said)
    if mine:
        return replace(check, observed=f"{check.observed} (its waiver ended on {mine[0].until})")
    return check
