"""One small search on a small cluster that meets every fault once; `make soak` does it sixty times and at random."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.audit import audit
from tests.faults.damage import cut_after_last_proposal, tear_newest_checkpoint
from tests.faults.driver import Driver
from tests.faults.local_cluster import LocalCluster
from tune_mentormix.errors import INTERRUPTED, WRONG_REQUEST
from tune_mentormix.experiment import read_experiment

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
        assert driver.wait_for_reports(15)
        assert cluster.kill_worker(rng)
        code, printed = driver.refused()
        assert (code, printed.count("\n")) == (WRONG_REQUEST, 1)
        assert "is running already" in printed

        assert driver.wait_for_reports(driver.events("report") + 10)
        assert cluster.kill_node(rng)
        assert driver.wait_for_reports(driver.events("report") + 5)

        driver.signal(signal.SIGKILL)
        torn = tear_newest_checkpoint(driver.experiment)
        driver.start()
        assert driver.wait_for_reports(2 * EPOCHS + 5 * CHECKPOINT_EVERY), "by then the third trial has begun"

        assert driver.signal(signal.SIGTERM) == INTERRUPTED
        begun_last = cut_after_last_proposal(driver.experiment)
        trials = read_experiment(driver.experiment.parent, "faulty").trials
        assert not trials[begun_last].reports, "written down, never started"
        proposed = {number: trial.config for number, trial in trials.items()}
        driver.start()
        assert driver.wait() == 0, driver.output.read_text()
    finally:
        driver.close()
    found = audit(driver.experiment, TRIALS, CHECKPOINT_EVERY, torn=1)
    assert (found.lost, found.doubled, found.wrong) == (0, 0, [])
    trials = read_experiment(driver.experiment.parent, "faulty").trials
    assert {number: trials[number].config for number in proposed} == proposed, "taken up again, not proposed anew"
    assert trials[torn].state == "finished", "went on from the checkpoint before the torn one"
