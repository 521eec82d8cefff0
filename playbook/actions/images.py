"""Images: which the charts run here, building our own, bringing them onto every node, and asking each node for them.

The list is what the chart renders with the target's values; `book/images.yaml` says how each comes to be. A load counts
only when crictl on the node shows the image afterwards, in the build that is meant: the archive's, else the local one.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playbook.actions import archive, chart, docker, kind
from playbook.actions.docker import SOURCE_LABEL, Local
from playbook.actions.image_names import canonical, held_as, mirrored
from playbook.check import Probe, Verdicts
from playbook.model import Book, Image, Status
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown, unwritable

if TYPE_CHECKING:
    from playbook.engine import Hands
    from playbook.facts import Observer

LOADERS = 2
"""Loads side by side: more of them only share the disk."""
ROUNDS = 3


def described(book: Book, ref: str) -> Image:
    """How `ref` comes to be: an entry of the book by name, else an image that is pulled."""
    for image in book.images:
        own = image.source == "build" and image.repository == Image(ref, "", "", ()).repository and "@" not in ref
        if image.ref == ref or own:
            return Image(ref, image.why, image.source, image.modes, image.context, image.dockerfile, image.build_args)
    return Image(ref, "named by the values", "pull", ())


def wanted(target: Target, book: Book, shell: Shell) -> list[Image]:
    """The images that the charts run with the target's values."""
    return [described(book, ref) for ref in chart.wanted_images(target, shell)]


def carried(target: Target, book: Book, shell: Shell) -> list[Image]:
    """The images that are brought onto the nodes: the charts', and the Jobs' of an archive folder that has it."""
    index = archive_index(target)
    jobs = index.roles.get(archive.JOBS) if index else None
    return [*wanted(target, book, shell), *([Image(jobs, "Jobs inside the cluster", "pull", ())] if jobs else [])]


def archive_index(target: Target) -> archive.Index | None:
    """The index of the archive folder that images come from; None where they come from elsewhere."""
    return archive.read(Path(target.images.where)) if target.images.kind == "archive" else None


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
    have = docker.inspected(shell, [image.ref for image in own])
    root = target.infra.parent
    return [i for i in own if have.get(i.ref, Local("")).source != source_digest(root, i)]


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
    return listed(asked(shell, node, ["images", "-o", "json"]))


def asked(shell: Shell, node: str, words: list[str]) -> Any:
    """What crictl on a node answers."""
    try:
        return json.loads(shell.run(["docker", "exec", node, "crictl", *words], timeout_s=20).stdout)
    except CommandFailed as failed:
        raise Unknown("SFM-TOOL-003", f"the node {node} cannot be asked for its images", why=failed.gist) from failed


def listed(answer: Mapping[str, Any]) -> dict[str, str]:
    """Canonical reference to image id, of tags and of digests."""
    return {
        canonical(name): image["id"]
        for image in answer["images"]
        for name in [*(image.get("repoTags") or []), *(image.get("repoDigests") or [])]
    }


def meant(
    refs: Iterable[str], local: Mapping[str, Local], index: archive.Index | None, *, in_containerd: bool
) -> dict[str, Local]:
    """The build of each of `refs` that a node should have: the archive's, else the local Docker's.

    What cannot be compared is empty: Docker's containerd store has other ids than a node, so there the label decides.
    """
    empty = {"id": ""} if in_containerd else {"source": ""}
    found = {ref: replace(local.get(ref, Local("")), **empty) for ref in refs}
    return found | {ref: Local(index.id_of(ref)) for ref in found if index and index.id_of(ref)}


def absent(target: Target, shell: Shell, refs: Iterable[str]) -> list[tuple[str, str]]:
    """(node, ref) of every image that a node lacks, or has in another build than the one that is meant."""
    refs = list(refs)
    in_containerd = docker.keeps_in_containerd(docker.info(shell))
    builds = meant(refs, docker.inspected(shell, refs), archive_index(target), in_containerd=in_containerd)
    found = []
    for node in node_names(shell, target.cluster):
        have = on_node(shell, node)
        found += [(node, ref) for ref in refs if not arrived(shell, node, have.get(canonical(ref), ""), builds[ref])]
    return found


def arrived(shell: Shell, node: str, there: str, build: Local) -> bool:
    """Whether the id `there` is that of this build; of one without an id, the label of its source decides."""
    if not there or (build.id and build.id != there):
        return False
    return not build.source or source_label(asked(shell, node, ["inspecti", "-o", "json", there])) in ("", build.source)


def source_label(answer: Mapping[str, Any]) -> str:
    """The label of `crictl inspecti` that says what an image was built from; empty when it shows none."""
    config = ((answer.get("info") or {}).get("imageSpec") or {}).get("config") or {}
    return str((config.get("Labels") or {}).get(SOURCE_LABEL, ""))


def image_facts(seen: Observer) -> dict[str, Any]:
    """What is not built, and what is not on every node."""
    images = carried(seen.target, seen.book, seen.shell)
    refs = [image.ref for image in images]
    build_here = seen.target.images.kind != "archive"
    nodes = node_names(seen.shell, seen.target.cluster)
    lacking = absent(seen.target, seen.shell, refs) if nodes else [("no node yet", ref) for ref in refs]
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
        archive.load(shell, Path(source.where), image.ref, hands.left_s)
        return
    remote = image.ref
    if source.kind == "mirror":
        remote = mirrored(image.ref, source.where)
    try:
        if not ("@" in image.ref and named(shell, image.ref, held_as(image.ref))):
            hands.tell(f"pulling {remote}")
            shell.run(["docker", "pull", "--quiet", remote], timeout_s=hands.left_s)
            if remote != held_as(image.ref):
                shell.run(["docker", "tag", remote, held_as(image.ref)], timeout_s=20)
    except CommandFailed as failed:
        if "no space left on device" in failed.stderr:
            raise Trouble("SFM-TOOL-005", f"no disk space to pull {remote}", why=failed.gist) from failed
        raise Trouble("SFM-IMG-001", f"{remote} cannot be pulled", why=failed.gist) from failed


def named(shell: Shell, ref: str, name: str) -> bool:
    """Give a local image another name; False when the local Docker does not have it."""
    try:
        shell.run(["docker", "tag", ref, name], timeout_s=20)
    except CommandFailed:
        return False
    return True


def to_fetch(images: Iterable[Image], local: Mapping[str, Local], index: archive.Index | None) -> list[Image]:
    """Those of `images` that the local Docker lacks, or has in another build than the archive folder."""
    return [i for i in images if i.ref not in local or (index and index.id_of(i.ref) not in ("", local[i.ref].id))]


def fetch_all(hands: Hands, images: Iterable[Image]) -> None:
    """Bring those images into the local Docker that it lacks."""
    images = list(images)
    local = docker.inspected(hands.shell, [image.ref for image in images])
    for image in to_fetch(images, local, archive_index(hands.target)):
        fetch(hands, image)


def preload(hands: Hands, params: Mapping[str, Any]) -> str:
    """Bring every image that a node lacks onto it, side by side, and prove arrival by asking each node.

    An image that was built anew meanwhile is loaded again, a few times at most: then somebody else is at work on it.
    """
    target, shell = hands.target, hands.shell
    images = carried(target, hands.book, shell)
    refs = [image.ref for image in images]
    loaded: set[str] = set()
    for left in reversed(range(ROUNDS + 1)):
        lacking = absent(target, shell, refs)
        if not lacking:
            return f"loaded {len(loaded)} of {len(images)} images, all are on every node"
        if not left:
            break
        lacks = {ref for _, ref in lacking}
        fetch_all(hands, [image for image in images if image.ref in lacks])
        load_all(hands, lacking)
        loaded |= lacks
    why = "\n".join(f"{ref} on {node}" for node, ref in lacking)
    raise Trouble("SFM-IMG-002", f"{len(lacking)} images did not arrive", why=why)


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
    """Load images from the local Docker onto `nodes`; one of a digest gets its name there, which no archive keeps."""
    nodes = list(nodes)
    try:
        with tempfile.TemporaryDirectory(prefix="sfmctl-images-") as folder:
            saved = Path(folder) / "images.tar"
            docker.save(shell, [held_as(ref) for ref in refs], saved, hands.left_s)
            argv = ["kind", "load", "image-archive", str(saved), "--name", hands.target.cluster]
            shell.run([*argv, "--nodes", ",".join(nodes)], timeout_s=hands.left_s)
        for node, ref in ((node, ref) for node in nodes for ref in refs if "@" in ref):
            tag = ["ctr", "--namespace", "k8s.io", "images", "tag", "--force", canonical(held_as(ref)), canonical(ref)]
            shell.run(["docker", "exec", node, *tag], timeout_s=20)
    except CommandFailed as failed:
        raise Trouble(load_code(failed), f"{', '.join(refs)} could not be loaded", why=failed.told) from failed
    except OSError as error:
        raise unwritable(Path(tempfile.gettempdir()), "TMPDIR", error) from error
    return refs


def load_code(failed: CommandFailed) -> str:
    """The code of a load that failed, by what the program said."""
    said = failed.stderr + failed.stdout
    if "no space left on device" in said:
        return "SFM-TOOL-005"
    return "SFM-IMG-008" if re.search(r"content digest sha256:\w+: not found", said) else "SFM-IMG-002"


def bundle(hands: Hands, folder: Path, beside: Mapping[str, Image]) -> list[dict[str, str]]:
    """Write an archive folder with every image that the charts run here and those `beside` them, by what they are for.

    Our own are built when their source is another one than that of the local build.
    """
    target, shell = hands.target, hands.shell
    images = [*wanted(target, hands.book, shell), *beside.values()]
    for image in unbuilt(target, shell, images):
        build_one(target, shell, image, hands.left_s, hands.tell)
    fetch_all(hands, images)
    roles = {role: image.ref for role, image in beside.items()}
    index = archive.save(shell, folder, [i.ref for i in images], roles, hands.tell, lambda: hands.left_s)
    return [{"ref": i.ref, "file": index.images[canonical(i.ref)]["file"]} for i in images]


def probe_nodes(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether every node has every image; only kind nodes can be asked."""
    if not probe.target.is_kind:
        return Status.SKIP, "the nodes of this cluster pull by themselves"
    if probe.target.infra == Path():
        return Status.SKIP, "no charts here to say which images they run"
    shell = probe.seen.shell
    refs = [image.ref for image in wanted(probe.target, probe.book, shell)]
    left = absent(probe.target, shell, refs)
    if left:
        return Status.FAIL, "; ".join(f"{ref} on {node}" for node, ref in left[:5])
    return Status.PASS, f"{len(refs)} images on every node"
