"""Makes the charts' values.schema.json and docs/reference/values.md from the commented values.yaml of every chart.

One source: a key with its default and the comment above it. `# -- ` begins the meaning, `# @enum a|b` lists what is
allowed, `# @free` lets anything in. Everything else is refused by the schema: a dead or misspelt key fails the render.

`python docs/generate/values.py` writes them; `--check` says which are stale and leaves with 3 when any is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HELM = ROOT / "infra" / "helm"
UMBRELLA = HELM / "soma-infra"
PAGE = ROOT / "docs" / "reference" / "values.md"
MODES = ("dev", "test", "staging", "prod-lite", "prod")
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"

# Keys that mean the same wherever they stand.
KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("Image of the containers.", {}),
    "repository": ("Repository of the image.", {"minLength": 1}),
    "tag": ("Tag of the image.", {}),
    "digest": ("Digest of the image; it wins over the tag.", {"pattern": "^(sha256:[0-9a-f]{64})?$"}),
    "pullPolicy": ("When the image is pulled.", {"enum": ["Always", "IfNotPresent", "Never"]}),
    "size": ("Size of the volume, or bound of the emptyDir.", {"pattern": r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti)$"}),
    "ephemeral": ("Keep data in an emptyDir, which is lost with the pod.", {}),
    "storageClass": ("Storage class; empty: `global.storageClass`.", {}),
    "port": ("", {"minimum": 1, "maximum": 65535}),
    "replicas": ("", {"minimum": 1}),
    "days": ("", {"minimum": 1, "maximum": 36500}),
    "postgresNodes": ("", {"minimum": 1}),
    "maxmemory": ("", {"pattern": "^[1-9][0-9]*([kKmMgG][bB]?)?$"}),
    "enabled": ("", {}),
}


@dataclass(frozen=True)
class Key:
    """One key of a values.yaml: its path, default, meaning and what is allowed under it."""

    path: str
    default: Any
    meaning: str
    schema: dict[str, Any]
    children: tuple[Key, ...] = field(default=())


def comment_above(lines: list[str], number: int) -> list[str]:
    """The comment lines right above line `number`, top first."""
    above: list[str] = []
    while number > 0 and lines[number - 1].strip().startswith("#"):
        number -= 1
        above.insert(0, lines[number].strip().lstrip("#").strip())
    return above


def scalar_schema(value: Any) -> dict[str, Any]:
    """The type that the default has."""
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "minimum": 0}
    if isinstance(value, list):
        return {"type": "array", "items": {"type": "string"}}
    return {"type": "string"}


def resources_schema() -> dict[str, Any]:
    """Kubernetes' requests and limits."""
    amount = {"anyOf": [{"type": "string", "pattern": QUANTITY}, {"type": "number"}]}
    side = {
        "type": "object",
        "additionalProperties": False,
        "properties": dict.fromkeys(("cpu", "memory", "ephemeral-storage"), amount),
    }
    return {"type": "object", "additionalProperties": False, "properties": {"requests": side, "limits": side}}


def closed(children: tuple[Key, ...]) -> dict[str, Any]:
    """An object that has these keys and no other."""
    properties = {key.path.rsplit(".", 1)[-1]: key.schema for key in children}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def read_keys(node: yaml.MappingNode, lines: list[str], loader: yaml.SafeLoader, prefix: str) -> tuple[Key, ...]:
    """Every key of a mapping, with what the comments say of it."""
    return tuple(read_key(name, value, lines, loader, f"{prefix}{name.value}") for name, value in node.value)


def read_key(name: yaml.Node, value: yaml.Node, lines: list[str], loader: yaml.SafeLoader, path: str) -> Key:
    """One key; flow mappings take their meaning from KNOWN, because no comment fits inside them."""
    inline = lines[name.start_mark.line][: name.start_mark.column].strip() != ""
    above = [] if inline else comment_above(lines, name.start_mark.line)
    known, limits = KNOWN.get(name.value, ("", {}))
    meaning = " ".join(line[2:].strip() for line in above if line.startswith("--")) or known
    default = loader.construct_object(value, deep=True)
    options = next((line[len("@enum") :].strip() for line in above if line.startswith("@enum")), None)
    children: tuple[Key, ...] = ()
    if "@free" in above:
        schema: dict[str, Any] = {"type": "array" if isinstance(default, list) else "object"}
    elif name.value == "resources":
        schema = resources_schema()
    elif isinstance(value, yaml.MappingNode):
        children = read_keys(value, lines, loader, f"{path}.")
        schema = closed(children)
    else:
        schema = scalar_schema(default) | limits
        if options is not None:
            schema = {"type": schema["type"], "enum": [type(default)(o) for o in options.split("|")]}
    if not meaning:
        raise SystemExit(f"{path} has no comment that says what it is")
    return Key(path, default, meaning, {"description": meaning} | schema, children)


def load(file: Path) -> tuple[Key, ...]:
    """The keys of one values.yaml."""
    text = file.read_text(encoding="utf-8")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return read_keys(node, text.splitlines(), loader, "")
    finally:
        loader.dispose()


def components() -> list[str]:
    """The sub-charts, in the umbrella's order."""
    chart = yaml.safe_load((UMBRELLA / "Chart.yaml").read_text(encoding="utf-8"))
    return [d["name"] for d in chart["dependencies"]]


def component_schema(name: str) -> dict[str, Any]:
    """What may stand under a component's name; Helm adds `global` to it, which the umbrella checks."""
    schema = closed(load(HELM / "components" / name / "values.yaml"))
    schema["properties"]["global"] = {"type": "object", "description": "What every component reads."}
    return schema


def schemas() -> Iterator[tuple[Path, str]]:
    """(file, content) of every schema. The umbrella's holds the components' too: Helm skips those switched off."""
    top = closed(load(UMBRELLA / "values.yaml"))
    for name in components():
        top["properties"][name] = component_schema(name)
        yield HELM / "components" / name / "values.schema.json", dumped(component_schema(name))
    yield UMBRELLA / "values.schema.json", dumped(top)


def dumped(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#"} | schema, indent=1) + "\n"


def flat(keys: tuple[Key, ...]) -> Iterator[Key]:
    """Every key that has a value of its own."""
    for key in keys:
        yield from flat(key.children) if key.children else [key]


def shown(value: Any) -> str:
    """A value as one short cell."""
    return f"`{json.dumps(value)}`"


def table(keys: tuple[Key, ...]) -> Iterator[str]:
    """One row per key."""
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    for key in flat(keys):
        options = f" One of {', '.join(shown(o) for o in key.schema['enum'])}." if "enum" in key.schema else ""
        yield f"| `{key.path}` | {shown(key.default)} | {key.meaning.replace('|', chr(92) + '|')}{options} |"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything a values file sets."""
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from leaves(below, f"{path}.{name}" if path else name)
    else:
        yield path, value


def mode_table() -> Iterator[str]:
    """What each mode sets, side by side."""
    files = {m: yaml.safe_load((UMBRELLA / f"values-{m}.yaml").read_text(encoding="utf-8")) for m in MODES}
    modes = {m: dict(leaves(values)) for m, values in files.items()}
    yield f"| key | {' | '.join(MODES)} |"
    yield "|---|" + "---|" * len(MODES)
    for path in dict.fromkeys(path for values in modes.values() for path in values):
        cells = (shown(values[path]) if path in values else "" for values in modes.values())
        yield f"| `{path}` | {' | '.join(cells)} |"


def page() -> str:
    """The whole reference."""
    parts = [
        "# Values of the charts",
        "Made from the commented `values.yaml` of every chart by `docs/generate/values.py`; edit those. A key that\n"
        "is not listed here is refused by the charts' schemas.",
        "`infra/helm/soma-infra` is the chart that is installed; what stands below under a component is set under its\n"
        "name (`redis.maxmemory`). Beside a mode, `values-lab.yaml` replaces the images by a laboratory's stand-ins.",
        "## Modes\n\nAn empty cell means the default.",
        "\n".join(mode_table()),
        "## soma-infra",
        "\n".join(table(load(UMBRELLA / "values.yaml"))),
    ]
    for name in components():
        parts += [f"## {name}", "\n".join(table(load(HELM / "components" / name / "values.yaml")))]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the files, or with --check compare them."""
    made = [*schemas(), (PAGE, page())]
    stale = [f for f, text in made if not f.is_file() or f.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for file in stale:
            print(f"{file.relative_to(ROOT)} is not what values.yaml gives; run python docs/generate/values.py")
        return 3 if stale else 0
    for file, text in made:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
