"""The code that an agent's author pastes runs as it stands, against a real daemon."""

import re
import subprocess
import sys
from pathlib import Path

from testing.daemon import daemon

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "agent.md"


def test_the_tutorials_code_runs_as_it_stands(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 2
    with daemon(tmp_path) as process:
        profile = process.profile()
        env = {"SFM_ADDRESS": profile.address, "SFM_CA_FILE": profile.ca_file, "SFM_TOKEN_FILE": profile.token_file,
               "XDG_CONFIG_HOME": str(tmp_path)}  # fmt: skip
        said = []
        for block in [*blocks, *blocks]:  # twice: an agent that starts again
            done = subprocess.run([sys.executable, "-W", "error", "-c", block], env=env, capture_output=True, text=True,
                                  check=False)  # fmt: skip
            assert done.returncode == 0, done.stderr
            said.append(done.stdout.splitlines())
    assert said[0][0].endswith("Ana prefers short answers.")
    assert said[0][-1].startswith("SFM-MEM-008 - ")
    assert said[1] == ["Ana prefers short answers.", "Ana asked about the build on Tuesday."]
    assert [line.split("  ")[-1] for line in said[2]] == [line.split("  ")[-1] for line in said[0]]
