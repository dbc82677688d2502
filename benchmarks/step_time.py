"""Times a MentorMix step: against a plain step of the same network, and against the loop one writes first.

The arithmetic of MentorMix is 4/3 of a plain step's: a forward pass more, where a plain step is worth three. Ours
are `Trainer` steps after burn-in; the loop is in `straightforward.py`, its DataLoader without workers, because a
trial with one CPU has none to spare. All three train the same network on 128 random 32×32 colour images a
step, cropped and flipped; no time depends on what the images show. The step is all there is: no evaluation.
Each runs in a separate process, and they take turns.

    python benchmarks/step_time.py [--json FILE] [--rounds 15] [--steps 3] [--networks NAME …] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import count, cycle
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measurement import alternate, median_of_ratios, write_result
from straightforward import LabelledImages, StraightforwardLoop
from torch.utils.data import DataLoader

from trainables.data import Dataset
from trainables.data.streaming import in_memory
from trainables.device import DeviceDataset
from trainables.models import build_network
from trainables.settings import NetworkName, TrialSettings
from trainables.training import Trainer

BATCH_SIZE = 128
IMAGES = 10 * BATCH_SIZE
SIDE = 32  # pixels
CLASSES = 10
THREADS = 1
MENTORMIX, PLAIN, STRAIGHTFORWARD = CONTESTANTS = ("mentormix", "plain", "straightforward")

_step: Callable[[], object]  # of a contestant's own process
_device: torch.device


def random_data() -> Dataset:
    """Random images with random labels, as a trial gets them."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, size=(IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    labels = random.integers(0, CLASSES, size=IMAGES)
    return Dataset(
        name="random",
        class_names=tuple(map(str, range(CLASSES))),
        train_images=images,
        train_labels=labels,
        validation_images=images[:1],
        validation_labels=labels[:1],
        validation_given_labels=labels[:1],
        train_clean_labels=None,
        validation_clean_labels=None,
        validation_labels_kind="noisy",
        fingerprint="",
        folds=1,
    )


class Contestant:
    """Takes steps in a separate process, so that no contestant profits from another's switches and memory."""

    def __init__(self, name: str, network: NetworkName, steps: int, device: str) -> None:
        """Start the process, which builds what it needs on `device`; each measurement will be of so many `steps`."""
        self._steps = steps
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (name, network, device))

    def __call__(self) -> float:
        """Seconds a step."""
        return self._process.submit(_seconds_per_step, self._steps).result()

    def stop(self) -> None:
        """End the process."""
        self._process.shutdown()


def _prepare(name: str, network: NetworkName, device: str) -> None:
    """Builds a contestant, in its own process."""
    global _step, _device
    torch.set_num_threads(THREADS)
    _device = torch.device(device)
    mentormix = TrialSettings(network=network, mentor="threshold", augmentation="crop_flip", burn_in=0, epochs=10**6)
    plain = mentormix.model_copy(update={"mentor": "uniform", "mixup_alpha": 0.0})
    dataset = random_data()
    if name == STRAIGHTFORWARD:
        loader = DataLoader(
            LabelledImages(in_memory(dataset.train_images), dataset.train_labels), BATCH_SIZE, shuffle=True
        )
        _step = StraightforwardLoop(mentormix, build_network(mentormix, CLASSES, 3).to(_device), loader, CLASSES).step
    else:
        trainer = Trainer(plain if name == PLAIN else mentormix, DeviceDataset(dataset, _device))
        batches = cycle(torch.arange(IMAGES, device=_device).reshape(-1, BATCH_SIZE))
        numbers = count()

        def _step() -> object:
            return trainer.train_step(next(numbers), next(batches))


def _seconds_per_step(steps: int) -> float:
    """Takes steps in the contestant's process, and waits until the device has done them."""
    started = time.perf_counter()
    for _ in range(steps):
        _step()
    if _device.type == "cuda":
        torch.cuda.synchronize(_device)
    return (time.perf_counter() - started) / steps


def measure(network: NetworkName, steps: int, rounds: int, device: str) -> dict[str, list[float]]:
    """Name of the contestant → seconds a step, one figure a round."""
    contestants = {name: Contestant(name, network, steps, device) for name in CONTESTANTS}
    figures = alternate(contestants, rounds)
    for contestant in contestants.values():
        contestant.stop()
    return figures


def print_table(rows: list[dict[str, Any]], ratios: dict[str, float], rounds: int) -> None:
    """Milliseconds a step, and the ratios."""
    print(f"milliseconds a step of {BATCH_SIZE} images, median of {rounds}; {torch.get_num_threads()} thread")
    print(f"{'network':16}" + "".join(f"{name:>18}" for name in (*CONTESTANTS, "mentormix/plain", "straight./ours")))
    for row in rows:
        name = row["network"]
        cells = "".join(f"{1000 * row[contestant]:18.1f}" for contestant in CONTESTANTS)
        print(f"{name:16}{cells}{ratios[f'mentormix_over_plain/{name}']:18.2f}", end="")
        print(f"{ratios[f'straightforward_over_ours/{name}']:18.2f}")


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3, help="a contestant's steps in one round")
    parser.add_argument("--networks", nargs="+", default=["small_cnn", "resnet32"])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    torch.set_num_threads(THREADS)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for network in arguments.networks:
        figures = measure(network, arguments.steps, arguments.rounds, arguments.device)
        rows.append({"network": network, **{name: median(values) for name, values in figures.items()}})
        ratios[f"mentormix_over_plain/{network}"] = median_of_ratios(figures[MENTORMIX], figures[PLAIN])
        ratios[f"straightforward_over_ours/{network}"] = median_of_ratios(
            figures[STRAIGHTFORWARD], figures[MENTORMIX]
        )

    print_table(rows, ratios, arguments.rounds)
    if arguments.json is not None:
        device = torch.device(arguments.device)
        write_result(arguments.json, "step_time", device, arguments.rounds, rows, ratios)


if __name__ == "__main__":
    main()
