"""The Slurm script run as it is, on two nodes: namespaces of this machine with a network between them.

Slurm itself is stood in for: `srun` runs its command on both nodes, `scontrol` names them. Everything else is real.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.simulated_search import simulate_search
from tune_mentormix.experiment.experiment import read_experiment

REPOSITORY = Path(__file__).parents[1]
HEAD, WORKER = "10.255.0.1", "10.255.0.2"
SEARCH = ["--epochs", "2", "--trials", "3", "--set", "max_images=300"]
LIMIT_SECONDS = 300
ISOLATED = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]

# The job's own processes and network; the sleeper holds those of the second node.
JOB = f"""
set -eu
ip link set lo up
unshare --net sleep infinity & export SECOND=$!
for _ in $(seq 50); do
    [ "$(readlink /proc/$SECOND/ns/net)" = "$(readlink /proc/$$/ns/net)" ] || break
    sleep 0.1
done
ip link add node0 type veth peer name node1 netns "$SECOND"
ip address add {HEAD}/24 dev node0
ip link set node0 up
second="nsenter --net=/proc/$SECOND/ns/net ip"
$second link set lo up
$second address add {WORKER}/24 dev node1
$second link set node1 up
bash deploy/slurm.sh "$@"
"""
SRUN = f"""#!/bin/bash
set -eu
while [[ $1 == --* ]]; do shift; done
if [[ $1 == hostname ]]; then echo "{HEAD}"; exit; fi
isolated="unshare --pid --fork --kill-child --mount-proc"
RAY_TMPDIR=$FOLDER/b nsenter --net=/proc/$SECOND/ns/net $isolated "$@" &> "$FOLDER/second" &
second=$!
RAY_TMPDIR=$FOLDER/a $isolated "$@" && code=0 || code=$?
kill -KILL $second
exit $code
"""
SCONTROL = "#!/bin/bash\nprintf 'first\\nsecond\\n'\n"
OURS = '#!/bin/bash\nexec python -m tune_mentormix "$@"\n'


def can_isolate() -> bool:
    try:
        link = ["ip", "link", "add", "node0", "type", "veth", "peer", "name", "node1"]
        return subprocess.run([*ISOLATED, *link], capture_output=True, timeout=20).returncode == 0
    except OSError:
        return False


def write_tools(folder: Path, srun: str) -> Path:
    folder.mkdir()
    for name, text in {"srun": srun, "scontrol": SCONTROL, "tune-mentormix": OURS}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def environment_of_job(tools: Path, storage: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    return inherited | {
        "PATH": f"{tools}:{Path(sys.executable).parent}:{inherited['PATH']}",
        "STORAGE": str(storage),
        "NAME": "birds",
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "[first,second]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For Ray's sockets, whose paths have 107 bytes at most."""
    with TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


@pytest.mark.cluster
@pytest.mark.skipif(not can_isolate(), reason="needs the right to make namespaces, as root has it, and iproute2")
def test_the_script_searches_on_two_nodes(short_folder: Path, tmp_path: Path) -> None:
    storage = tmp_path / "it's shared"
    environment = environment_of_job(write_tools(tmp_path / "bin", SRUN), storage) | {"FOLDER": str(short_folder)}
    submit(environment, SEARCH)
    experiment = read_experiment(storage, "birds")
    assert (experiment.state(), experiment.counts()["finished"]) == ("finished", 3)
    assert experiment.settings.address is None


def test_a_job_whose_ray_did_not_start_fails_though_its_search_is_there(tmp_path: Path) -> None:
    simulate_search(tmp_path, "birds", 2, epochs=4)
    done = subprocess.run(
        ["bash", "deploy/slurm.sh"],
        cwd=REPOSITORY,
        env=environment_of_job(write_tools(tmp_path / "bin", "#!/bin/bash\n"), tmp_path),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 1
    assert "Ray did not start" in done.stderr


def submit(environment: dict[str, str], options: list[str]) -> None:
    """Runs a job that must succeed."""
    done = subprocess.run(
        [*ISOLATED, "bash", "-c", JOB, "job", *options],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    second = Path(environment["FOLDER"]) / "second"
    assert done.returncode == 0, done.stdout + done.stderr + (second.read_text() if second.exists() else "")
