"""One small search on a small cluster that meets every fault once; `make soak` does it sixty times and at random."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.audit import audit
from tests.faults.damage import tear_newest_checkpoint
from tests.faults.driver import Driver
from tests.faults.local_cluster import LocalCluster
from tune_mentormix.errors import WRONG_REQUEST
from tune_mentormix.experiment.experiment import read_experiment

pytestmark = pytest.mark.cluster

TRIALS, EPOCHS, CHECKPOINT_EVERY = 6, 40, 5
SETTINGS: dict[str, object] = {
    "max_images": 600,
    "epochs": EPOCHS,
    "num_samples": TRIALS,
    "checkpoint_every": CHECKPOINT_EVERY,
    "max_concurrent": 2,
    "scheduler": "none",
}
SEED = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    cluster = LocalCluster(nodes=2)
    yield cluster
    cluster.close()


def test_a_search_that_meets_every_fault_loses_and_doubles_nothing(cluster: LocalCluster, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    driver = Driver(tmp_path / "storage", "faulty", cluster.address, SETTINGS)
    driver.start()
    try:
        assert driver.wait_for("proposed", 1)
        driver.signal(signal.SIGKILL)  # starting a worker takes seconds
        proposed = configurations(driver.experiment)
        assert driver.events("report") == 0, "written down, never started"

        driver.start()
        assert driver.wait_for_reports(15)
        kill(cluster.kill_worker, rng)
        code, printed = driver.refused()
        assert (code, printed.count("\n")) == (WRONG_REQUEST, 1)
        assert "is running already" in printed

        assert driver.wait_for_reports(driver.events("report") + 10)
        kill(cluster.kill_node, rng)
        assert driver.wait_for_reports(driver.events("report") + 5)

        driver.signal(signal.SIGKILL)
        torn = tear_newest_checkpoint(driver.experiment)
        driver.start()
        assert driver.wait() == 0, driver.output.read_text()
    finally:
        driver.close()
    found = audit(driver.experiment, TRIALS, CHECKPOINT_EVERY, torn=1)
    assert (found.lost, found.doubled, found.wrong) == (0, 0, [])
    assert proposed.items() <= configurations(driver.experiment).items(), "started, and not proposed again"
    curve = read_experiment(driver.experiment.parent, "faulty").trials[torn].curve
    assert list(curve) == list(range(1, EPOCHS + 1)), "resumed from a checkpoint before the truncated one"


def kill(kill_one: Callable[[random.Random], bool], rng: random.Random) -> None:
    """Kills it as soon as something trains: there may be a moment between two trials."""
    deadline = time.monotonic() + 30
    while not kill_one(rng):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def configurations(experiment: Path) -> dict[int, str]:
    """Returns the configuration of every trial so far."""
    trials = read_experiment(experiment.parent, experiment.name).trials
    return {number: str(trial.config) for number, trial in trials.items()}
