"""The documentation says what the program does: links lead somewhere, and every code and dependency has its words."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from sfmctl.codes import CATALOGUE as CLI_CODES
from sfmd.errors import CATALOGUE as DAEMON_CODES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
CODE = re.compile(r"SFM-[A-Z0-9]{2,5}-\d{3}")


def without_code(text: str) -> str:
    """Fenced blocks and inline code left out: what looks like a link there is none."""
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def headings(text: str) -> list[str]:
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [m[1].strip() for m in re.finditer(r"^#{1,6} (.+)$", plain, re.MULTILINE)]


def anchor(heading: str) -> str:
    """GitHub's rule: lower case, spaces as dashes, signs dropped."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def catalogue() -> dict[str, str]:
    """Every code of every part, with its title."""
    book = yaml.safe_load((ROOT / "playbook" / "book" / "codes.yaml").read_text())
    titles = {c.code: c.title for c in (*DAEMON_CODES.values(), *CLI_CODES.values())}
    return titles | {code: entry["title"] for code, entry in book.items()}


def sections() -> list[str]:
    return [h for h in headings((ROOT / "docs" / "troubleshooting.md").read_text()) if CODE.match(h)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_internal_link_resolves(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target) or "{" in target:  # elsewhere, or a pattern in a table
            continue
        path, _, fragment = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (fragment and fragment not in {anchor(h) for h in headings(there.read_text())}):
            broken.append(target)
    assert broken == []


def test_every_page_of_the_documentation_is_reached_from_its_index() -> None:
    seen, todo = set(), [ROOT / "docs" / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s]+\.md)", without_code(page.read_text())):
            if not target.startswith("http"):
                todo.append((page.parent / target).resolve())
    assert sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md") if p not in seen) == []


def test_every_code_in_the_source_is_in_a_catalogue() -> None:
    sources = [p for folder in ("sfmctl", "sfmd", "playbook", "infra") for p in (ROOT / folder).rglob("*")
               if p.suffix in {".py", ".yaml", ".tpl", ".sh"} and "gen" not in p.parts]  # fmt: skip
    used = {code: p for p in sources for code in CODE.findall(p.read_text())}
    assert {code: str(p) for code, p in used.items() if code not in catalogue()} == {}


def test_every_code_has_its_section_with_what_why_and_mend() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    wanted = {f"{code} — {title}" for code, title in catalogue().items()}
    assert sorted(wanted - set(sections())) == []
    assert sorted(set(sections()) - wanted) == []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        if CODE.match(part):
            assert all(f"**{word}**" in part for word in ("What", "Why", "Mend")), part[:40]


def test_no_code_has_two_sections() -> None:
    codes = [CODE.match(h)[0] for h in sections()]  # type: ignore[index]
    assert sorted(codes) == sorted(set(codes))


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = [*project["dependencies"], *(w for extra in project["optional-dependencies"].values() for w in extra)]
    needed = {re.match(r"[\w.-]+", w)[0].lower() for w in words}  # type: ignore[index]
    text = (ROOT / "docs" / "decisions" / "dependencies.md").read_text()
    heads = [line.partition(":")[0] for line in text.splitlines() if line.startswith("- **")]
    told = {name.lower() for head in heads for name in re.findall(r"\*\*([\w.-]+)\*\*", head)}
    assert told == needed


def test_every_decision_record_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    assert [p.name for p in sorted(folder.glob("[0-9]*.md")) if f"({p.name})" not in index] == []


def test_every_target_of_the_makefile_is_defined_once_and_phony_ones_exist() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", text, re.MULTILINE)
    assert sorted(targets) == sorted(set(targets))
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony is not None and sorted(phony[1].split()) == sorted(targets)
