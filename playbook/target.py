"""What a run is aimed at, resolved once: cluster, context, namespace, mode, values, places on disk.

Everything that talks to a cluster takes its context from here, so no call can drift to whatever context happens to be
current at that moment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from playbook.trouble import Trouble
from playbook.wiring.application import Application

MODES = ("dev", "test", "staging", "prod-lite", "prod")
NAMESPACE = "soma-infra"
RELEASE = "sharedinfra"
ADMITS = "soma.sh/allow-shared-infra"
"""The label that lets an application's namespace reach the shared infrastructure."""


KIND = "kind-*"
"""The contexts on which things may be taken away without being allowed by name."""
CLUSTER_NAME = re.compile(r"[a-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where images come from: `pull` (what the local Docker has, else the registry), `mirror` or `archive`."""

    kind: str = "pull"
    where: str = ""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How our own images are built: arguments, the build's network, and whether BuildKit is used."""

    args: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    buildkit: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """One cluster and everything that decides what is done to it."""

    context: str = "kind-soma"
    cluster: str = "soma"
    kubeconfig: Path | None = None
    namespace: str = NAMESPACE
    release: str = RELEASE
    mode: str = "dev"
    values: tuple[Path, ...] = ()
    infra: Path = Path("infra")
    node_image: str = ""
    kind_file: Path | None = None
    allowed: tuple[str, ...] = (KIND,)
    images: ImageSource = field(default_factory=ImageSource)
    build: BuildSettings = field(default_factory=BuildSettings)
    state: Path = Path("~/.local/state/sfm")
    cache: Path = Path("~/.cache/sfm")
    ready_timeout_s: float = 600.0
    recover: bool = False
    change_mode: bool = False
    recreate: bool = False
    force_finalizers: bool = False
    gone_wait_s: float = 120.0
    compose: bool = False
    compose_files: tuple[Path, ...] = ()
    keep_cluster: bool = False
    app: Application | None = None
    sfmctl_image: str = ""

    @property
    def is_kind(self) -> bool:
        """Whether the context is the kind cluster of that name, which this program may make and fill."""
        return self.context == f"kind-{self.cluster}"

    @property
    def may_destroy(self) -> bool:
        """Whether destructive verbs are allowed on this context at all."""
        return any(fnmatch(self.context, pattern) for pattern in self.allowed)

    @property
    def chart(self) -> Path:
        """The umbrella chart of the shared infrastructure."""
        return self.infra / "helm" / "soma-infra"

    @property
    def kind_config(self) -> Path:
        """The configuration of the kind cluster: the one that was given, else ours of one node."""
        return self.kind_file or self.infra / "kind" / "soma-kind.yaml"

    @property
    def value_files(self) -> tuple[Path, ...]:
        """The values in the order in which helm lays them over the chart's own."""
        return (self.chart / f"values-{self.mode}.yaml", *self.values)

    @property
    def name(self) -> str:
        """The target in one line for people."""
        if self.compose:
            return "the compose stack"
        where = f"{self.context}/{self.namespace} ({self.mode})"
        return f"{where}, application {self.app}" if self.app else where


def check_mode(mode: str) -> str:
    """`mode`, or the error for one that is not there."""
    if mode not in MODES:
        raise Trouble("SFM-CLI-020", f"there is no mode {mode!r}", why=f"the modes are {', '.join(MODES)}")
    return mode


def check_cluster(name: str) -> str:
    """`name`, or the error for what kind does not take as a cluster's name."""
    if not CLUSTER_NAME.fullmatch(name):
        raise Trouble("SFM-KIND-010", f"{name!r} is no name of a kind cluster", why="it matches [a-z0-9.-]+")
    return name


def find_infra(given: Path | None) -> Path:
    """The `infra` folder: as given, else of the directory one is in or above it, else beside this program's source."""
    places = [given] if given else [p / "infra" for p in (Path.cwd(), *Path.cwd().parents, Path(__file__).parents[1])]
    for place in places:
        if (place / "helm").is_dir():
            return place.resolve()
    looked = str(given) if given else f"{Path.cwd()} and above it"
    raise Trouble("SFM-CLI-021", f"no infra folder with charts was found in {looked}")


def home(variable: str, default: str) -> Path:
    """An XDG base directory with our folder in it."""
    base = os.environ.get(variable)
    return (Path(base) if base else Path(default).expanduser()) / "sfm"
