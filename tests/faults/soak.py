"""Kills drivers, workers and nodes under running searches at random moments, and checks that nothing is lost by it.

    python -m tests.faults.soak --kills 20

Searches run one after another on a cluster of a head and four nodes until each kind has done its kills. By turns they
are of two sorts: random sampling without early stopping, whose curves must equal those of an undisturbed search bit
for bit; and the default, TPE and ASHA. What is checked of each is in `audit`. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.audit import Audit, audit
from tests.faults.driver import Driver
from tests.faults.local_cluster import LocalCluster

NODES = 4
TRIALS = 12
CHECKPOINT_EVERY = 5
SMALL: dict[str, object] = {
    "max_images": 600,
    "epochs": 100,
    "num_samples": TRIALS,
    "checkpoint_every": CHECKPOINT_EVERY,
    "max_concurrent": 2,
    "max_restarts": 20,  # faults come faster here than some trials get to an epoch they had not reached before
}
INDEPENDENT: dict[str, object] = {"sampler": "random", "scheduler": "none"}  # of the order in which results come
KINDS = ("driver", "worker", "node")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MAX_WAIT = 2.0  # seconds from the first report after a fault to the next fault


def main() -> int:
    """Runs the soak and prints its table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=int(os.environ.get("SOAK_KILLS", "20")), help="of each kind")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SOAK_SEED", time.time_ns() % 100_000)))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.kills} kills of each kind (SOAK_SEED, SOAK_KILLS)", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        cluster = LocalCluster(NODES)
        try:
            return _soak(Path(folder), cluster, random.Random(arguments.seed), arguments.kills)
        finally:
            cluster.close()


def _soak(storage: Path, cluster: LocalCluster, rng: random.Random, kills: int) -> int:
    began = time.monotonic()
    plan = [kind for kind in KINDS for _ in range(kills)]
    rng.shuffle(plan)
    undisturbed = Driver(storage, "undisturbed", cluster.address, SMALL | INDEPENDENT)
    undisturbed.start()
    assert undisturbed.wait() == 0, undisturbed.output.read_text()
    audits: list[Audit] = []
    done = Counter[str]()
    while plan:
        turn = len(audits)
        independent = turn % 2 == 0
        driver = Driver(storage, f"search-{turn}", cluster.address, SMALL | (INDEPENDENT if independent else {}))
        done += _run_with_faults(driver, cluster, rng, plan)
        reference = undisturbed.experiment if independent else None
        audits.append(audit(driver.experiment, TRIALS, CHECKPOINT_EVERY, undisturbed=reference))
        print(f"{driver.experiment.name}: {dict(done)} after {time.monotonic() - began:.0f} s", flush=True)
    return _print_table(done, audits)


def _run_with_faults(driver: Driver, cluster: LocalCluster, rng: random.Random, plan: list[str]) -> Counter[str]:
    """Runs one search to its end; takes the faults that hit it off the plan, and counts them."""
    done = Counter[str]()
    driver.start()
    try:
        while driver.wait_for_reports(driver.events("report") + 1):
            if not plan:
                driver.wait()
                continue
            time.sleep(rng.uniform(0, MAX_WAIT))
            if not driver.is_running():
                continue
            if _strike(plan[-1], driver, cluster, rng):
                done[plan.pop()] += 1
            if not driver.is_running():
                driver.start()
    finally:
        driver.close()
    return done


def _strike(kind: str, driver: Driver, cluster: LocalCluster, rng: random.Random) -> bool:
    """One fault; False if there was nothing to hit."""
    if kind == "driver":
        driver.signal(rng.choice(SIGNALS))
        return True
    return cluster.kill_worker(rng) if kind == "worker" else cluster.kill_node(rng)


def _print_table(done: Counter[str], audits: list[Audit]) -> int:
    ends = sum((one.ends for one in audits), Counter[str]())
    print("kind    faults")
    for kind in KINDS:
        print(f"{kind:<8}{done[kind]:>6}")
    for name, count in (
        ("trials asked", sum(one.asked for one in audits)),
        ("finished", ends["finished"]),
        ("stopped early", ends["stopped"]),
        ("failed", ends["failed"]),
        ("lost", sum(one.lost for one in audits)),
        ("doubled", sum(one.doubled for one in audits)),
        ("restarts", sum(one.restarts for one in audits)),
        ("epochs repeated", sum(one.repeated for one in audits)),
    ):
        print(f"{name:<16}{count:>6}")
    wrong = [line for one in audits for line in one.wrong]
    for line in wrong:
        print(f"wrong: {line}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
