"""A node that dies while a search checks it: the search runs on the others."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.driver import REPOSITORY, driver_environment
from tests.faults.local_cluster import LocalCluster
from tune_mentormix.errors import WRONG_REQUEST

pytestmark = pytest.mark.cluster

SECONDS = 150.0
CHECK = """
import sys
from tune_mentormix.cli.app import show_log
from tune_mentormix.cluster.connection import connection
from tune_mentormix.cluster.preflight import check_cluster
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import RequestError

show_log()
settings = read_settings(None, {"address": sys.argv[1], "storage": sys.argv[2]})
with connection(settings, verbose=False):
    print("joined", flush=True)
    sys.stdin.readline()
    try:
        check_cluster(settings)
    except RequestError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
"""


def check_while_a_node_dies(cluster: LocalCluster, storage: Path) -> tuple[int, str]:
    """Checks the cluster as a search does, and kills a node during the check; the exit code and what was logged."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHECK, cluster.address, str(storage)],
        cwd=REPOSITORY,
        env=driver_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n", process.communicate()
        node = cluster.freeze_node()  # Ray lists it, and it takes no task any more
        print(file=process.stdin, flush=True)
        time.sleep(2)
        cluster.remove_node(node)
        return process.wait(SECONDS), process.communicate()[1]
    finally:
        process.kill()


def test_nodes_that_die_while_they_are_checked_are_skipped_until_none_is_left(tmp_path: Path) -> None:
    cluster, storage = LocalCluster(nodes=2), tmp_path / "storage"
    try:
        code, logged = check_while_a_node_dies(cluster, storage)
        assert code == 0, logged
        assert logged.count("died while it was checked: the other nodes are used") == 1
        assert len(logged.splitlines()) == 1
        code, logged = check_while_a_node_dies(cluster, storage)
    finally:
        cluster.close()
    assert code == WRONG_REQUEST
    assert "no node that can run trials is left in the cluster" in logged
    assert not storage.exists()
