"""Writes docs/reference/grpc.md from proto/memory.proto: every method, message and field with the comment beside it.

`python docs/generate/grpc.py` writes it; `--check` says whether it is as it should be and leaves with 3 when not.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from sfmd.rpc.rules import RULES, STREAMING

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "reference" / "grpc.md"
_TYPES = {value: name.removeprefix("TYPE_").lower() for name, value in FieldDescriptorProto.Type.items()}

HEAD = """# The gRPC interface

Made from `proto/memory.proto` by `docs/generate/grpc.py`; edit the comments there.

Package `soma.memory.v1`, port 50053, TLS always, `authorization: Bearer sfm_…` on every call but `grpc.health.v1`.
A refusal carries trailing metadata: `sfm-code` (stable; `sfmctl explain CODE`), `sfm-next` (what to type,
percent-encoded), `retry-after-ms` when waiting helps, `x-request-id`. A caller may send its own `x-request-id`.

Every call needs one verb of the token's grant, and every namespace that it names must be within the grant.
"""


def parsed() -> FileDescriptorProto:
    """The file's descriptor with the places of its comments."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        done = protoc.main(["protoc", f"-I{ROOT / 'proto'}", "--include_source_info", f"--descriptor_set_out={out}",
                            "memory.proto"])  # fmt: skip
        if done != 0:
            raise SystemExit("protoc could not read proto/memory.proto")
        return FileDescriptorSet.FromString(out.read_bytes()).file[0]


class Comments:
    """The comment of each descriptor path, leading or trailing, as one line."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._at = {tuple(at.path): " ".join(f"{at.leading_comments} {at.trailing_comments}".split())
                    for at in file.source_code_info.location}  # fmt: skip

    def of(self, *path: int) -> str:
        return self._at.get(path, "").replace("|", "\\|")


def type_of(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    """A field's type in words, linked when it is one of ours."""
    name = field.type_name.rsplit(".", 1)[-1]
    for nested in message.nested_type:
        if nested.name == name and nested.options.map_entry:
            return f"map of {type_of(nested.field[0], nested)} to {type_of(nested.field[1], nested)}"
    word = f"[{name}](#{name.lower()})" if name else _TYPES[field.type]
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {word}"
    return f"{word}, optional" if field.proto3_optional else word


def methods(file: FileDescriptorProto, comments: Comments) -> Iterator[str]:
    """The table of methods."""
    yield "## Methods\n\n| method | takes | gives | verb | what it does |\n|---|---|---|---|---|"
    for i, method in enumerate(file.service[0].method):
        takes, gives = method.input_type.rsplit(".", 1)[-1], method.output_type.rsplit(".", 1)[-1]
        stream_in = "stream of " if method.client_streaming else ""
        stream_out = "stream of " if method.server_streaming else ""
        text = comments.of(6, 0, 2, i)
        yield (f"| `{method.name}` | {stream_in}[{takes}](#{takes.lower()}) | {stream_out}[{gives}](#{gives.lower()}) "
               f"| {RULES[method.name].verb} | {text} |")  # fmt: skip
    streams = ", ".join(f"`{m}`" for m in sorted(STREAMING))
    yield f"\nCounted against the bound of streams: {streams}; the others against that of unary calls. At a bound a"
    yield "call is refused at once with SFM-MEM-023 and `retry-after-ms`.\n"


def messages(file: FileDescriptorProto, comments: Comments) -> Iterator[str]:
    """Each message with its fields, then each enumeration."""
    yield "## Messages\n"
    for i, message in enumerate(file.message_type):
        yield f"### {message.name}\n"
        if comments.of(4, i):
            yield comments.of(4, i) + "\n"
        if not message.field:
            yield "No fields.\n"
            continue
        yield "| no. | field | type | meaning |\n|---|---|---|---|"
        for j, field in enumerate(message.field):
            yield f"| {field.number} | `{field.name}` | {type_of(field, message)} | {comments.of(4, i, 2, j)} |"
        yield ""
    for i, enum in enumerate(file.enum_type):
        yield f"### {enum.name}\n\n| no. | value | meaning |\n|---|---|---|"
        for j, value in enumerate(enum.value):
            yield f"| {value.number} | `{value.name}` | {comments.of(5, i, 2, j)} |"
        yield ""


def document() -> str:
    """The whole page."""
    file = parsed()
    comments = Comments(file)
    lines = [HEAD, comments.of(6, 0) + "\n", *methods(file, comments), *messages(file, comments)]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the page, or with --check compare it."""
    made = document()
    if "--check" in sys.argv[1:]:
        same = TARGET.exists() and TARGET.read_text() == made
        print("docs/reference/grpc.md is", "as the protocol has it" if same else "stale: python docs/generate/grpc.py")
        return 0 if same else 3
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
