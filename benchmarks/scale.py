"""A search of a thousand one-second trials: what the driver adds, and whether it grows with the number of trials.

Everything is real (Ray, `start_search`, journal, TPE, checkpoints, TensorBoard) but the training: in the place of the
trainable stands one that sleeps a second, reports once and saves an empty checkpoint, so that `SLOTS` trials run
side by side on any machine. Ideal is that every slot trains one trial a second without a pause. The first `SLOTS`
trials sleep longer, until all workers have started, which is no matter of scale: the wall clock counts from when all
of them have ended to the end of the last trial.

    python benchmarks/scale.py [--json FILE] [--trials 1000]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from local_ray import local_ray
from measurement import write_result
from ray.tune import Trainable

from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.search import tune_run as trial_runs
from tune_mentormix.search.run import start_search

CPUS = 2
SLOTS = 8
TRIAL_SECONDS = 1.0
FIRST_SECONDS = 20.0  # until the other workers have started: Ray ends those whose trial another one has taken over
WINDOWS = 10


class SleepingTrial(Trainable):
    """Sleeps instead of training; stands where `MentorMixTrainable` does."""

    def setup(self, config: dict[str, Any], **context: object) -> None:
        """Takes what the real one does, and needs none of it."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial in the same process."""
        return True

    def step(self) -> dict[str, Any]:
        """The only epoch; the accuracy falls with the percentile's distance from 0.6, so that TPE has work to do."""
        time.sleep(FIRST_SECONDS if self.config["trial"] < SLOTS else TRIAL_SECONDS)
        settings = self.config["settings"]
        return {"epoch": 1, "val_accuracy": 0.9 - abs(settings["loss_p_percentile"] - 0.6), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to keep."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Nothing to load."""


@dataclass
class Watch:
    """Notes the driver's memory and processor time as trials end."""

    process: psutil.Process = field(default_factory=psutil.Process)
    seen: dict[int, tuple[float, float, int]] = field(default_factory=dict)  # ended → clock, CPU seconds, bytes
    begun: int | None = None  # trials that had ended when the last of the first did

    def __call__(self, experiment: Experiment) -> None:
        """The search's progress callback."""
        ended = experiment.counts()["finished"]
        if self.begun is None and ended >= SLOTS:
            self.begun = ended if all(experiment.trials[number].has_ended for number in range(SLOTS)) else None
        if ended not in self.seen:
            self.seen[ended] = (time.perf_counter(), time.process_time(), self.process.memory_info().rss)

    def at(self, ended: int) -> tuple[float, float, int]:
        """Returns what was noted when so many trials had ended, or the next number that was noted."""
        return self.seen[min(number for number in self.seen if number >= ended)]


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--trials", type=int, default=1000)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    trials, window = arguments.trials, arguments.trials // WINDOWS
    trial_runs.MentorMixTrainable = SleepingTrial  # type: ignore[attr-defined, assignment]  # the only thing not real
    watch = Watch()
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as storage, local_ray(CPUS):
        settings = SearchSettings(
            name="scale",
            storage=Path(storage),
            max_images=150,
            trial={"batch_size": 32},
            epochs=1,
            num_samples=trials,
            cpus_per_trial=CPUS / SLOTS,
            max_concurrent=SLOTS,
        )
        start_search(settings, watch)
        for end in range(window, trials + 1, window):
            clock, cpu, memory = watch.at(end)
            clock_before, cpu_before, _ = watch.at(max(end - window, 1))
            rows.append(
                {
                    "trials": end,
                    "seconds_per_trial": (clock - clock_before) / window,
                    "driver_cpu_seconds_per_trial": (cpu - cpu_before) / window,
                    "driver_megabytes": memory / 2**20,
                }
            )

    assert watch.begun is not None
    wall = watch.at(trials)[0] - watch.at(watch.begun)[0]
    ideal = (trials - watch.begun) / SLOTS * TRIAL_SECONDS
    ratios = {
        "overhead_over_ideal": wall / ideal,
        "driver_memory_growth": watch.at(trials)[2] / watch.at(trials // 5)[2],
    }
    print(f"{trials} trials of {TRIAL_SECONDS:g} s in {SLOTS} slots: {wall:.0f} s where {ideal:.0f} s are ideal")
    print(f"{'trials':>7}{'s/trial':>10}{'driver CPU s/trial':>20}{'driver MB':>12}")
    for row in rows:
        print(
            f"{row['trials']:7}{row['seconds_per_trial']:10.3f}{row['driver_cpu_seconds_per_trial']:20.3f}"
            f"{row['driver_megabytes']:12.0f}"
        )
    print(f"overhead over ideal {ratios['overhead_over_ideal']:.2f}, memory {ratios['driver_memory_growth']:.2f}")
    if arguments.json is not None:
        write_result(arguments.json, "scale", torch.device("cpu"), 1, rows, ratios)


if __name__ == "__main__":
    main()
