"""Measures how far `compile: true` is from eager training, over the same steps of two trials with equal settings.

Both train on the digits with 40 % noise, in every rule of MentorMix (`second_reweight`, `mentornet_pd`, hard mixing).
The loss of each step is compared, and at the end the accuracy on the validation split. A third trial, eager on two
threads, shows what rounding alone does: a last bit decides now and then who is drawn as a partner, or whether an
example is kept, and from there the trials go their own ways.

    python benchmarks/compiled.py [--json FILE] [--steps 200] [--network small_cnn] [--device cpu]
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measurement import write_result

from trainables.data import load_dataset
from trainables.device import DeviceDataset
from trainables.settings import DataSettings, TrialSettings
from trainables.training import Trainer


class Result(NamedTuple):
    """The result of one trial."""

    losses: list[float]  # of each step
    accuracy: float  # on the validation split, after the last step
    first_seconds: float  # of the first step, which compiles


def train(settings: TrialSettings, data: DeviceDataset, steps: int, threads: int) -> Result:
    """Trains a number of steps on the images in their own order."""
    torch.set_num_threads(threads)
    trainer = Trainer(settings, data)
    batches = torch.split(torch.arange(len(data.train_labels), device=data.device), settings.batch_size)
    full = len(data.train_labels) // settings.batch_size
    losses, first_seconds = [], 0.0
    for step in range(steps):
        started = time.perf_counter()
        losses.append(trainer.train_step(step, batches[step % full])[0].item())
        first_seconds = first_seconds or time.perf_counter() - started
    return Result(losses, trainer.evaluate(data.validation_images, data.validation_labels).accuracy, first_seconds)


def main() -> None:
    """Train all, print the differences, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--network", default="small_cnn")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    data = DeviceDataset(load_dataset(DataSettings(dataset="digits", noise=0.4)), arguments.device)
    epochs = math.ceil(arguments.steps / (len(data.train_labels) // 128))
    eager = TrialSettings(network=arguments.network, epochs=epochs, second_reweight=True)
    contestants = {
        "eager": (eager, 1),
        "compiled": (eager.model_copy(update={"compile": True}), 1),
        "threads": (eager, 2),
    }
    results = {}
    for name, (settings, threads) in contestants.items():
        results[name] = train(settings, data, arguments.steps, threads)
        print(f"{name}: last loss {results[name].losses[-1]:.6f}, accuracy {results[name].accuracy:.4f}", flush=True)

    def differences(name: str) -> list[float]:
        return [abs(a - b) for a, b in zip(results["eager"].losses, results[name].losses, strict=True)]

    compiled, threads_differ = differences("compiled"), differences("threads")
    rows: list[dict[str, Any]] = [
        {"step": step, "eager": loss, "compiled_differs": compiled[step], "two_threads_differ": threads_differ[step]}
        for step, loss in enumerate(results["eager"].losses)
    ]
    ratios = {"seconds_to_compile": results["compiled"].first_seconds}
    for name, found in (("compiled", compiled), ("two_threads", threads_differ)):
        ratios[f"{name}_largest_loss_difference_first_5"] = max(found[:5])
        ratios[f"{name}_largest_loss_difference"] = max(found)
    for name in ("compiled", "threads"):
        ratios[f"{name}_accuracy_difference"] = abs(results["eager"].accuracy - results[name].accuracy)
    print(ratios)
    if arguments.json is not None:
        write_result(arguments.json, "compiled", data.device, 1, rows, ratios)


if __name__ == "__main__":
    main()
