"""Makes the gRPC stubs from proto/ while the package is built, so that no generated line is ever edited by hand.

As a build hook it runs on every wheel and editable install; as a program (`python infra/build/stubs.py`) it rewrites
the stubs in the work tree.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program, outside a build
    BuildHookInterface = object  # type: ignore[assignment,misc]

PACKAGE = "sfmd/rpc/gen"


def generate(root: Path, out: Path) -> None:
    """Write memory_pb2.py, memory_pb2.pyi and memory_pb2_grpc.py below `out`, importable as sfmd.rpc.gen."""
    from grpc_tools import protoc

    well_known = Path(protoc.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"-I{PACKAGE}={root / 'proto'}",
            f"-I{well_known}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            f"{PACKAGE}/memory.proto",
        ]
    )
    if code != 0:
        raise SystemExit(f"protoc failed with status {code}")
    (out / PACKAGE / "__init__.py").touch()


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg]
    """Hatchling calls this before it collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        generate(root, root)


if __name__ == "__main__":
    top = Path(__file__).resolve().parents[2]
    generate(top, Path(sys.argv[1]) if len(sys.argv) > 1 else top)
