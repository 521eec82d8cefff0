"""A command of the book as a person can paste it against one target: application, mode and cluster filled in.

The rule it guards: a hint acts on the cluster that was looked at. The book's commands name no cluster, so without this
they would go to whichever is the default.
"""

from __future__ import annotations

import os
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

from playbook.model import Code
from playbook.target import KIND, Target

COMMAND = re.compile(
    r"(?:^|(?<=, then )|(?<=, or )|(?<=\()|(?<=: ))(?:kubectl|helm|sfmctl) .+?(?=$|, | \(|; |\)(?:$|[ ,]))"
)
"""A command within the words of a hint: at its beginning, after `, then ` or `, or `, in parentheses, after a colon; it
ends at a comma, a semicolon or a parenthesis."""
NO_CLUSTER = ("explain", "playbook", "doctor", "app render", "cd", "images bundle", "images build")
"""Commands of ours that are about no cluster."""
KIND_ONLY = ("cluster", "images")
"""Those that are about a kind cluster by its name alone, and know no context."""
DEFAULT = "soma"
DESTROYS = ("reset", "down", "rollback", "app unwire")
"""Those that take things away, which want to hear the context once more where it is not one of kind."""
HAS_NAMESPACE = ("app", "db", "vault policy", "vault role", "verify")


def next_step(code: Code, target: Target, given: str = "") -> str:
    """What to type next: what the place that saw the trouble gave, else the code's own command, aimed at `target`."""
    own = code.mend if target.is_kind else code.elsewhere or code.mend
    return filled(given or own, target)


def filled(text: str, target: Target) -> str:
    """`text` with every command in it aimed at `target`."""
    app = target.app
    if app is not None:
        text = re.sub(r"(-n |namespace/)APP\b", rf"\g<1>{app.namespace}", text)
        text = re.sub(r"\bAPP\b", app.name, text)
        text = re.sub(r"\bENV\b", app.env, text)
    text = text.replace("--mode MODE", " ".join(["--mode", target.mode, *values(target)]))
    return COMMAND.sub(lambda found: aimed(found[0], target), text)


def values(target: Target) -> list[str]:
    """The values files as options, relative to where one is when they are below it."""
    here = Path.cwd()
    shown = [path.relative_to(here) if path.is_relative_to(here) else path for path in target.values]
    return [word for path in shown for word in ("-f", shlex.quote(str(path)))]


def aimed(command: str, target: Target) -> str:
    """One command with the context (and kubeconfig) of the target, where it does not name one itself."""
    program, _, rest = command.partition(" ")
    given = f" --kubeconfig {shlex.quote(str(target.kubeconfig))}" if target.kubeconfig else ""
    if program in ("kubectl", "helm"):
        option = "--context" if program == "kubectl" else "--kube-context"
        return command if option in command else f"{program} {option} {target.context}{given} {rest}"
    if rest.startswith(NO_CLUSTER) or "--cluster " in rest or "--context " in rest:
        return command
    app, where = target.app, ""
    if app is not None and app.namespace != app.name and rest.startswith(HAS_NAMESPACE) and f" {app.name}" in rest:
        where = f" --namespace {app.namespace}"
    return f"{command}{where}{cluster(rest, target)}{allowed(rest, target)}{given}"


def allowed(rest: str, target: Target) -> str:
    """The option that lets a command destroy something on the target, where it would be refused otherwise."""
    destroys = (rest.startswith(DESTROYS) or " --recover" in rest) and "--allow-context" not in rest
    return f" --allow-context {target.context}" if destroys and not fnmatch(target.context, KIND) else ""


def cluster(rest: str, target: Target) -> str:
    """The option that names the target, where it is not the one that would be taken anyway."""
    if target.is_kind:
        default = target.cluster == os.environ.get("SFM_CLUSTER", DEFAULT) == DEFAULT
        return "" if default else f" --cluster {target.cluster}"
    return "" if rest.startswith(KIND_ONLY) else f" --context {target.context}"
