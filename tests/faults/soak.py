"""Makes faults under running searches at random moments, and checks that nothing is lost by them.

    python -m tests.faults.soak --faults 9

Drivers, workers and nodes are killed, the disk fills up, the storage is away, the journal is removed, the reader of
the output ends. Searches run one after another on a cluster of a head and four nodes until each fault was made so
often. By turns they are of two sorts: random sampling without early stopping, whose curves must equal those of an
undisturbed search bit for bit; and the default, TPE and ASHA. What is checked of each is in `audit`, and each fault
of the storage or the output must be seen in a line. Exit code 1 if anything is wrong.

The storage is a small disk of its own. Where mounting is not allowed, the disk is not filled.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.audit import Audit, audit
from tests.faults.driver import Driver
from tests.faults.local_cluster import LocalCluster
from tests.faults.storage_faults import STORAGE_FAULTS, cut_output, full_disk

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
KILLS = ("driver", "worker", "node")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MAX_WAIT = 2.0  # seconds from the first report after a fault to the next fault
DISK = "size=400m"


def main() -> int:
    """Runs the soak and prints its table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=int(os.environ.get("SOAK_FAULTS", "9")), help="of each kind")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SOAK_SEED", time.time_ns() % 100_000)))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.faults} faults of each kind (SOAK_SEED, SOAK_FAULTS)", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, _disk(Path(folder, "storage")) as is_disk:
        cluster = LocalCluster(NODES)
        try:
            kinds = [*KILLS, *(kind for kind, fault in STORAGE_FAULTS.items() if is_disk or fault is not full_disk)]
            return Soak(Path(folder), cluster, random.Random(arguments.seed)).run(kinds, arguments.faults)
        finally:
            cluster.close()


@contextmanager
def _disk(folder: Path) -> Iterator[bool]:
    """Mounts a disk of its own, if that is allowed; tells whether it was."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", DISK, "none", str(folder)]
    is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not is_mounted:
        print("mounting is not allowed here, so no disk is filled", flush=True)
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


class Soak:
    """Searches under faults, one after another."""

    def __init__(self, folder: Path, cluster: LocalCluster, rng: random.Random) -> None:
        """Nothing runs yet; `folder` holds the storage, and what the searches print."""
        self._storage, self._logs = folder / "storage", folder
        self._cluster, self._rng = cluster, rng
        self._done = Counter[str]()
        self._seen: dict[str, list[float]] = defaultdict(list)  # seconds until the line of a fault

    def run(self, kinds: list[str], faults: int) -> int:
        """Makes so many faults of each kind, and prints the table; the exit code."""
        began = time.monotonic()
        plan = kinds * faults
        self._rng.shuffle(plan)
        undisturbed = self._driver("undisturbed", SMALL | INDEPENDENT)
        undisturbed.start()
        assert undisturbed.wait() == 0, undisturbed.output.read_text()
        audits: list[Audit] = []
        while plan:
            turn = len(audits)
            independent = turn % 2 == 0
            driver = self._driver(f"search-{turn}", SMALL | (INDEPENDENT if independent else {}))
            self._run_with_faults(driver, plan)
            reference = undisturbed.experiment if independent else None
            audits.append(audit(driver.experiment, TRIALS, CHECKPOINT_EVERY, undisturbed=reference))
            seconds = time.monotonic() - began
            print(f"{driver.experiment.name}: {dict(self._done)} after {seconds:.0f} s", flush=True)
        self._print_seen(kinds)
        return _print_table(audits)

    def _driver(self, name: str, settings: dict[str, object]) -> Driver:
        return Driver(self._storage, name, self._cluster.address, settings, self._logs)

    def _run_with_faults(self, driver: Driver, plan: list[str]) -> None:
        """Runs one search to its end; takes the faults that hit it off the plan, and counts them."""
        driver.start()
        try:
            while driver.wait_for_reports(driver.events("report") + 1):
                if not plan:
                    continue
                time.sleep(self._rng.uniform(0, MAX_WAIT))
                if driver.is_running() and self._strike(plan[-1], driver):
                    self._done[plan.pop()] += 1
                if not driver.is_running():
                    driver.start()
        finally:
            driver.close()

    def _strike(self, kind: str, driver: Driver) -> bool:
        """One fault; False if there was nothing to hit."""
        if kind == "driver":
            driver.signal(self._rng.choice(SIGNALS))
            return True
        if kind in KILLS:
            return (self._cluster.kill_worker if kind == "worker" else self._cluster.kill_node)(self._rng)
        fault = STORAGE_FAULTS[kind]
        seconds = fault(driver, self._storage)
        if seconds is None:
            return False
        self._seen[kind].append(seconds)
        if fault is cut_output and driver.is_running():  # the next faults are to be seen
            driver.signal(signal.SIGINT)
        return True

    def _print_seen(self, kinds: list[str]) -> None:
        print("fault             made  line seen  seconds until it, at most")
        for kind in kinds:
            seen = self._seen[kind]
            print(f"{kind:<18}{self._done[kind]:>4}" + (f"{len(seen):>11}{max(seen):>27.1f}" if seen else ""))


def _print_table(audits: list[Audit]) -> int:
    ends = sum((one.ends for one in audits), Counter[str]())
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
