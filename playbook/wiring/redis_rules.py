"""What Redis says that a user may do, against what was set for it. Pure.

Redis words a user's commands anew, and each version in its own way. So commands are compared by which are refused in
the end, with the categories as the server itself lists them; keys, channels and passwords by their words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

EVERYTHING = ("fast", "slow")
"""The categories of which every command has one."""
IMPLIED = frozenset({"sanitize-payload", "resetchannels"})
"""What a line may say or leave out without another meaning."""
SHOWN = 4

Categories = Mapping[str, frozenset[str]]


def commands(line: str) -> list[str]:
    """The words of a line that give or take commands, in their order."""
    return [word for word in outside_selectors(line).split() if word[0] in "+-"]


def outside_selectors(line: str) -> str:
    """The line without the further sets of rules that stand in parentheses at its end."""
    return line.partition(" (")[0]


def categories(*lines: str) -> set[str]:
    """The categories that have to be known to compare lines."""
    named = {word[2:] for line in lines for word in commands(line) if word[1] == "@"}
    return (named - {"all"}) | set(EVERYTHING)


def refused(words: Iterable[str], has: Categories) -> frozenset[str]:
    """The commands that `words` refuse in the end; one that is named stands for its subcommands too."""
    every = frozenset[str]().union(*has.values())
    out = every
    for word in words:
        name = word[1:]
        if name == "@all":
            meant = every
        elif name.startswith("@"):
            meant = has[name[1:]]
        else:
            meant = frozenset(c for c in every if c == name or c.startswith(f"{name}|"))
        out = out - meant if word[0] == "+" else out | meant
    return out


def differences(wanted: str, live: str, has: Categories) -> list[str]:
    """What the live line of a user allows too much or too little, in words; no digest of a password is told."""
    theirs, ours = (
        {word for word in outside_selectors(line).split()[2:] if word[0] not in "+-"} - IMPLIED
        for line in (live, wanted)
    )
    found = ["has another password"] if any(word[0] == "#" for word in theirs ^ ours) else []
    found += [f"has {word}" for word in sorted(theirs - ours) if word[0] != "#"]
    found += [f"lacks {word}" for word in sorted(ours - theirs) if word[0] != "#"]
    no, should = refused(commands(live), has), refused(commands(wanted), has)
    found += [f"may run {listed(should - no)}"] if should - no else []
    found += [f"may not run {listed(no - should)}"] if no - should else []
    return found + (["has rules besides ours"] if outside_selectors(live) != live else [])


def listed(names: Iterable[str]) -> str:
    """Some names, and how many more there are."""
    all_of = sorted(names)
    more = len(all_of) - SHOWN
    return ", ".join(all_of[:SHOWN]) + (f" and {more} more" if more > 0 else "")
