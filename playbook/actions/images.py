"""Images: which the charts run here, building our own, bringing them onto every node, and asking each node for them.

The list is what the chart renders with the target's values; `book/images.yaml` says how each comes to be. A load counts
only when crictl on the node shows the image afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playbook.actions import chart, kind
from playbook.check import Probe, Verdicts
from playbook.model import Book, Image, Status
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown

if TYPE_CHECKING:
    from playbook.engine import Hands
    from playbook.facts import Observer

LOADERS = 2
"""Loads side by side: more of them only share the disk."""
ROUNDS = 3
INDEX = "index.json"
SOURCE_LABEL = "sh.soma.source"


def docker_info(shell: Shell) -> dict[str, Any]:
    """What the Docker engine says of itself; Unknown when it does not answer."""
    try:
        info = dict(json.loads(shell.run(["docker", "info", "--format", "{{json .}}"], timeout_s=15).stdout))
    except CommandFailed as failed:
        raise Unknown("SFM-TOOL-004", "the Docker engine does not answer", why=failed.gist) from failed
    if info.get("ServerErrors") or not info.get("ServerVersion"):
        raise Unknown(
            "SFM-TOOL-004", "the Docker engine does not answer", why="; ".join(info.get("ServerErrors") or [])
        )
    return info


def canonical(ref: str) -> str:
    """A reference with its registry and tag said: `redis:7` is `docker.io/library/redis:7`."""
    name, at, digest = ref.partition("@")
    head, slash, last = name.rpartition("/")
    if not at and ":" not in last:
        last += ":latest"
    first = head.split("/")[0]
    if not slash:
        head = "docker.io/library"
    elif not ("." in first or ":" in first or first == "localhost"):
        head = f"docker.io/{head}"
    return f"{head}/{last}" + (f"@{digest}" if at else "")


def described(book: Book, ref: str) -> Image:
    """How `ref` comes to be: an entry of the book by name, else an image that is pulled."""
    for image in book.images:
        if image.ref == ref or (image.source == "build" and image.repository == Image(ref, "", "", ()).repository):
            return Image(ref, image.why, image.source, image.modes, image.context, image.dockerfile, image.build_args)
    return Image(ref, "named by the values", "pull", ())


def wanted(target: Target, book: Book, shell: Shell) -> list[Image]:
    """The images that the charts run with the target's values."""
    return [described(book, ref) for ref in chart.wanted_images(target, shell)]


def local_ids(shell: Shell, refs: Iterable[str]) -> dict[str, str]:
    """The image id of each of `refs` that the local Docker has."""
    return {ref: found[0] for ref, found in inspected(shell, refs).items()}


def inspected(shell: Shell, refs: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Image id and source label of each of `refs` that the local Docker has; one question for all of them."""
    wanted_refs = list(refs)
    if not wanted_refs:
        return {}
    form = "[{{json .RepoTags}},{{json .Id}},{{with .Config}}{{json .Labels}}{{else}}null{{end}}]"
    try:
        out = shell.run(["docker", "image", "inspect", "--format", form, *wanted_refs], timeout_s=30).stdout
    except CommandFailed as failed:
        if "no such image" not in failed.stderr.lower():
            raise Unknown("SFM-TOOL-004", "the Docker engine does not answer", why=failed.gist) from failed
        out = failed.stdout  # it still prints those that are there
    known: dict[str, tuple[str, str]] = {}
    for line in out.splitlines():
        if line.strip():
            tags, image_id, labels = json.loads(line)
            known |= {canonical(tag): (image_id, (labels or {}).get(SOURCE_LABEL, "")) for tag in tags or []}
    return {ref: known[canonical(ref)] for ref in wanted_refs if canonical(ref) in known}


def source_digest(root: Path, image: Image) -> str:
    """SHA-256 over what an image is built from, as 16 hex digits: a changed source is built anew.

    That is the build's folder, or `sources` where an image names only some of it.
    """
    folder = root / (image.context or Path(image.dockerfile).parent)
    total = hashlib.sha256((root / image.dockerfile).read_bytes())
    tops = [root / source for source in image.sources] or [folder]
    found = {p for top in tops for p in (top.rglob("*") if top.is_dir() else [top])}
    for path in sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def unbuilt(target: Target, shell: Shell, images: Iterable[Image]) -> list[Image]:
    """Those of our own images that the local Docker lacks, or has from another source than today's."""
    own = [image for image in images if image.source == "build"]
    have = inspected(shell, [image.ref for image in own])
    root = target.infra.parent
    return [image for image in own if have.get(image.ref, ("", ""))[1] != source_digest(root, image)]


def node_names(shell: Shell, cluster: str) -> list[str]:
    """The node containers of the kind cluster that hold images (a load balancer does not)."""
    nodes = kind.containers(shell, cluster)
    return sorted(
        n["Name"].lstrip("/")
        for n in nodes
        if n["Config"]["Labels"].get("io.x-k8s.kind.role") != "external-load-balancer"
    )


def on_node(shell: Shell, node: str) -> dict[str, str]:
    """What one node has, by crictl: canonical reference to image id."""
    try:
        listed = json.loads(shell.run(["docker", "exec", node, "crictl", "images", "-o", "json"], timeout_s=20).stdout)
    except CommandFailed as failed:
        raise Unknown("SFM-TOOL-003", f"the node {node} cannot be asked for its images", why=failed.gist) from failed
    return {canonical(tag): image["id"] for image in listed["images"] for tag in image.get("repoTags") or []}


def absent(shell: Shell, target: Target, refs: Iterable[str], ids: Mapping[str, str]) -> list[tuple[str, str]]:
    """(node, ref) of every image that a node lacks, or has in another build than the local Docker."""
    found = []
    for node in node_names(shell, target.cluster):
        have = on_node(shell, node)
        for ref in refs:
            there = have.get(canonical(ref))
            stale = there is not None and ref in ids and comparable(ids[ref], there) and ids[ref] != there
            if there is None or stale:
                found.append((node, ref))
    return found


def comparable(local: str, there: str) -> bool:
    """Whether both ids are digests of the image's configuration; Docker's containerd store has other ones."""
    return local.startswith("sha256:") and there.startswith("sha256:") and not os.environ.get("DOCKER_CONTAINERD_STORE")


def image_facts(seen: Observer) -> dict[str, Any]:
    """What is not built, and what is not on every node."""
    images = wanted(seen.target, seen.book, seen.shell)
    refs = [image.ref for image in images]
    ids = local_ids(seen.shell, refs)
    build_here = seen.target.images.kind != "archive"
    nodes = node_names(seen.shell, seen.target.cluster)
    lacking = absent(seen.shell, seen.target, refs, ids) if nodes else [("no node yet", ref) for ref in refs]
    return {
        "images.wanted": refs,
        "images.unbuilt": [i.ref for i in unbuilt(seen.target, seen.shell, images)] if build_here else [],
        "images.absent": [f"{ref} on {node}" if len(nodes) > 1 else ref for node, ref in lacking],
    }


def build(hands: Hands, params: Mapping[str, Any]) -> str:
    """Build those of our images that the charts run here and the local Docker lacks (all of them with `all`)."""
    images = [i for i in wanted(hands.target, hands.book, hands.shell) if i.source == "build"]
    todo = images if params.get("all") else unbuilt(hands.target, hands.shell, images)
    for image in todo:
        build_one(hands.target, hands.shell, image, hands.left_s, hands.tell)
    return f"built {', '.join(i.ref for i in todo) or 'nothing'}"


def build_one(target: Target, shell: Shell, image: Image, timeout_s: float, tell: Callable[[str], None]) -> None:
    """`docker build` of one of our images, with the build settings of the run."""
    settings = target.build
    root = target.infra.parent
    arguments = {**image.build_args, **settings.args}
    argv = ["docker", "build", "--tag", image.ref, "--file", str(root / image.dockerfile)]
    declared = {line.split()[1].split("=")[0] for line in (root / image.dockerfile).read_text().splitlines()
                if line.startswith("ARG ")}  # fmt: skip
    argv += ["--label", f"{SOURCE_LABEL}={source_digest(root, image)}"]
    argv += ["--network", settings.network] if settings.network else []
    argv += [a for k, v in sorted(arguments.items()) if k in declared for a in ("--build-arg", f"{k}={v}")]
    tell(f"building {image.ref}")
    try:
        shell.run(
            [*argv, str(root / (image.context or Path(image.dockerfile).parent))],
            env={"DOCKER_BUILDKIT": "1" if settings.buildkit else "0"}, timeout_s=timeout_s,
        )  # fmt: skip
    except CommandFailed as failed:
        if "no space left on device" in failed.stderr + failed.stdout:
            raise Trouble("SFM-TOOL-005", f"no disk space to build {image.ref}", why=failed.gist) from failed
        tail = "\n".join((failed.stdout + failed.stderr).splitlines()[-12:])
        raise Trouble("SFM-IMG-003", f"{image.ref} could not be built", why=f"{failed.line}\n{tail}") from failed


def fetch(hands: Hands, image: Image) -> None:
    """Bring one image into the local Docker: from an archive, a mirror, or its registry."""
    source, shell = hands.target.images, hands.shell
    if source.kind == "archive":
        load_archive(shell, Path(source.where), image.ref, hands.left_s)
        return
    name = canonical(image.ref)
    remote = f"{source.where.rstrip('/')}/{name.partition('/')[2]}" if source.kind == "mirror" else image.ref
    hands.tell(f"pulling {remote}")
    try:
        shell.run(["docker", "pull", "--quiet", remote], timeout_s=hands.left_s)
        if remote != image.ref:
            shell.run(["docker", "tag", remote, image.ref], timeout_s=20)
    except CommandFailed as failed:
        if "no space left on device" in failed.stderr:
            raise Trouble("SFM-TOOL-005", f"no disk space to pull {remote}", why=failed.gist) from failed
        raise Trouble("SFM-IMG-001", f"{remote} cannot be pulled", why=failed.gist) from failed


def preload(hands: Hands, params: Mapping[str, Any]) -> str:
    """Bring every image that a node lacks onto it, side by side, and prove arrival by asking each node.

    An image that was built anew meanwhile is loaded again, a few times at most: then somebody else is at work on it.
    """
    target, shell = hands.target, hands.shell
    images = wanted(target, hands.book, shell)
    loaded: set[str] = set()
    for _ in range(ROUNDS):
        refs = [image.ref for image in images]
        ids = local_ids(shell, refs)
        lacking = absent(shell, target, refs, ids)
        if not lacking:
            return f"loaded {len(loaded)} of {len(images)} images, all are on every node"
        for image in images:
            if image.ref not in ids and any(ref == image.ref for _, ref in lacking):
                fetch(hands, image)
        load_all(hands, lacking)
        loaded |= {ref for _, ref in lacking}
    left = absent(shell, target, refs, local_ids(shell, refs))
    if not left:
        return f"loaded {len(loaded)} of {len(images)} images, all are on every node"
    why = "\n".join(f"{ref} on {node}" for node, ref in left)
    raise Trouble("SFM-IMG-002", f"{len(left)} images did not arrive", why=why)


def load_all(hands: Hands, lacking: Iterable[tuple[str, str]]) -> None:
    """Load (node, ref) pairs, in batches that run side by side."""
    by_ref: dict[str, list[str]] = {}
    for node, ref in lacking:
        by_ref.setdefault(ref, []).append(node)
    by_nodes: dict[tuple[str, ...], list[str]] = {}
    for ref, nodes in sorted(by_ref.items()):
        by_nodes.setdefault(tuple(nodes), []).append(ref)
    batches = [(nodes, part) for nodes, refs in by_nodes.items() for part in halves(refs)]
    inner = hands.shell.child()
    with ThreadPoolExecutor(max_workers=LOADERS) as pool:
        try:
            for done in pool.map(lambda batch: load(hands, inner, batch[1], batch[0]), batches):
                hands.tell(f"loaded {', '.join(done)}")
        except BaseException:
            inner.cancelled.set()  # the other loader must not go on for minutes after ^C or a failure
            raise


def halves(refs: list[str]) -> list[list[str]]:
    """One batch for each loader. Images of one batch are saved together, so that layers they share go over once."""
    size = -(-len(refs) // LOADERS)
    return [refs[start : start + size] for start in range(0, len(refs), size)]


def load(hands: Hands, shell: Shell, refs: list[str], nodes: Iterable[str]) -> list[str]:
    """Load images from the local Docker onto `nodes`."""
    argv = ["kind", "load", "docker-image", *refs, "--name", hands.target.cluster, "--nodes", ",".join(nodes)]
    try:
        shell.run(argv, timeout_s=hands.left_s)
    except CommandFailed as failed:
        said = failed.stderr + failed.stdout
        code = "SFM-TOOL-005" if "no space left on device" in said else "SFM-IMG-002"
        raise Trouble(code, f"{', '.join(refs)} could not be loaded", why=failed.told) from failed
    return refs


def archive_name(ref: str) -> str:
    """The file name of an image in an archive folder."""
    return canonical(ref).replace("/", "_").replace(":", "_").replace("@", "_") + ".tar"


def read_index(folder: Path) -> dict[str, Any]:
    """The index of an archive folder: reference to file and digest."""
    try:
        return dict(json.loads((folder / INDEX).read_text(encoding="utf-8"))["images"])
    except (OSError, ValueError, KeyError) as error:
        raise Trouble("SFM-IMG-004", f"{folder} is no archive folder", why=f"{INDEX}: {error}") from error


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_archive(shell: Shell, folder: Path, ref: str, timeout_s: float) -> None:
    """Load one image of an archive folder into the local Docker, after its digest was compared."""
    entry = read_index(folder).get(canonical(ref))
    path = folder / entry["file"] if entry else None
    if entry is None or path is None or not path.is_file():
        raise Trouble("SFM-IMG-004", f"the archive folder lacks {ref}")
    if digest(path) != entry["sha256"]:
        raise Trouble("SFM-IMG-006", f"the archive {path.name} is damaged")
    try:
        shell.run(["docker", "load", "--quiet", "--input", str(path)], timeout_s=timeout_s)
    except CommandFailed as failed:
        code = "SFM-TOOL-005" if "no space left" in failed.stderr else "SFM-IMG-006"
        raise Trouble(code, f"the archive {path.name} could not be loaded", why=failed.gist) from failed


def bundle(hands: Hands, folder: Path) -> list[dict[str, str]]:
    """Write an archive folder with every image that the charts run here, and its index; complete ones are kept."""
    images = wanted(hands.target, hands.book, hands.shell)
    ids = local_ids(hands.shell, [i.ref for i in images])
    for image in images:
        if image.ref in ids:
            continue
        if image.source == "build":
            build_one(hands.target, hands.shell, image, hands.left_s, hands.tell)
        else:
            fetch(hands, image)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = read_index(folder) if (folder / INDEX).exists() else {}
        ids = local_ids(hands.shell, [i.ref for i in images])
        for image in images:
            path = folder / archive_name(image.ref)
            known = index.get(canonical(image.ref), {})
            if known.get("id") != ids[image.ref] or not path.is_file() or digest(path) != known["sha256"]:
                hands.tell(f"writing {path.name}")
                partial = path.with_suffix(".part")
                hands.shell.run(["docker", "save", "--output", str(partial), image.ref], timeout_s=hands.left_s)
                partial.rename(path)
                index[canonical(image.ref)] = {"file": path.name, "sha256": digest(path), "id": ids[image.ref]}
                write_index(folder, index)
    except OSError as error:
        raise Trouble("SFM-CLI-029", f"{folder} cannot be written", why=str(error)) from error
    except CommandFailed as failed:
        raise Trouble("SFM-CLI-029", f"{folder} cannot be written", why=failed.told) from failed
    return [{"ref": i.ref, "file": str(index[canonical(i.ref)]["file"])} for i in images]


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Replace the index as a whole, so that an interrupted bundle is never taken for a complete one."""
    partial = folder / f"{INDEX}.part"
    partial.write_text(json.dumps({"schemaVersion": 1, "images": index}, indent=2, sort_keys=True), encoding="utf-8")
    partial.rename(folder / INDEX)


def probe_docker(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether the Docker engine answers."""
    return Status.PASS, f"engine {docker_info(probe.seen.shell)['ServerVersion']}"


def probe_nodes(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether every node has every image; only kind nodes can be asked."""
    if not probe.target.is_kind:
        return Status.SKIP, "the nodes of this cluster pull by themselves"
    if probe.target.infra == Path():
        return Status.SKIP, "no charts here to say which images they run"
    shell = probe.seen.shell
    refs = [image.ref for image in wanted(probe.target, probe.book, shell)]
    left = absent(shell, probe.target, refs, local_ids(shell, refs))
    if left:
        return Status.FAIL, "; ".join(f"{ref} on {node}" for node, ref in left[:5])
    return Status.PASS, f"{len(refs)} images on every node"
