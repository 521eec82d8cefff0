"""What holds for every test, whatever started it."""

from __future__ import annotations

import shutil
import signal

import pytest

# A shell that starts a job in the background has it ignore ^C, and every process below inherits that: the programs
# under test are sent ^C, so they have to start with its default.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def helm() -> str:
    """The program helm. Without it nothing can be said about the charts, and the skip says so."""
    found = shutil.which("helm")
    if found is None:
        pytest.skip("helm is not installed: the charts were NOT checked (https://helm.sh/docs/intro/install)")
    return found


@pytest.fixture(scope="session")
def cluster_tools(helm: str) -> None:
    """What every command asks for before it looks at a cluster."""
    if shutil.which("kind") is None:
        pytest.skip(
            f"kind is not installed ({helm} is): commands that need a cluster were NOT tried (https://kind.sigs.k8s.io)"
        )
