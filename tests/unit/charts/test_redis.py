"""What a Redis node's start script writes for its server."""

import re
import subprocess

import pytest

from testing.charts import HELM

SCRIPT = (HELM / "components" / "redis" / "files" / "redis.sh").read_text()


def written(folder, nodes, sentinels):
    """The lines of redis.conf for one of so many nodes."""
    function = re.search(r"^write_conf\(\) \{.*?^\}", SCRIPT, re.S | re.M)
    assert function
    given = {"NODE_HOST": "redis-0", "REDIS_COUNT": str(nodes), "SENTINEL_COUNT": str(sentinels), "TLS_DIR": "",
             "MAXMEMORY": "128mb", "MAXMEMORY_POLICY": "noeviction", "conf": str(folder / "redis.conf"), "acl": "acl",
             "PATH": "/usr/bin:/bin"}  # fmt: skip
    script = f"secret() {{ echo s; }}\n{function[0]}\nwrite_conf\n"
    subprocess.run(["sh", "-eu", "-c", script], env=given, check=True)
    return (folder / "redis.conf").read_text().splitlines()


@pytest.mark.parametrize(("nodes", "sentinels", "guarded"), [(1, 0, False), (2, 3, False), (3, 3, True), (5, 5, True)])
def test_a_primary_without_a_replica_takes_no_writes_where_another_may_be_promoted(tmp_path, nodes, sentinels, guarded):
    conf = written(tmp_path, nodes, sentinels)
    assert ("min-replicas-to-write 1" in conf, "min-replicas-max-lag 10" in conf) == (guarded, guarded)
    assert ("replica-announce-ip redis-0" in conf) == (sentinels > 0)
