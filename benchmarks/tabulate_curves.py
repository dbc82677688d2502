"""Train a grid of configurations in full and keep their validation curves: what `search_efficiency` searches in.

Real trials (`Trainer`, `small_cnn`) on the digits at 40 and 60 % symmetric noise, 863 images to train on and 575 with
noisy labels to validate on, one seed. A table holds the count of right answers after every epoch, by grid index. It
is written after every trial, short burn-ins first, and taken up again where it ended: all of it takes half an hour of
one core.

    python benchmarks/tabulate_curves.py [--noise 40 60] [--folder benchmarks/curves]
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import torch

from trainables.data import load_dataset
from trainables.device import DeviceDataset
from trainables.errors import TrainingDiverged
from trainables.settings import DataSettings, TrialSettings
from trainables.training import Trainer

FOLDER = Path(__file__).parent / "curves"
GRID: dict[str, list[Any]] = {  # ordered; every published setting for these noise rates is a point of it
    "mixup_alpha": [0.5, 1.0, 2.0, 4.0, 8.0, 32.0],
    "loss_p_percentile": [0.1, 0.3, 0.5, 0.6, 0.75, 0.9],
    "burn_in": [0.0, 5.0, 10.0, 20.0, 30.0],
    "second_reweight": [False, True],
}
EPOCHS = 27
BATCH_SIZE = 64
VALIDATION_FRACTION = 0.4


def tabulate(noise: int, path: Path) -> None:
    """Fill the table at `path`, for `noise` percent of wrong labels, with what it lacks."""
    data_settings = DataSettings(noise=noise / 100, validation_fraction=VALIDATION_FRACTION)
    data = DeviceDataset(load_dataset(data_settings), "cpu")
    table: dict[str, Any] = {
        "noise": noise,
        "epochs": EPOCHS,
        "grid": GRID,
        "validation_images": len(data.validation_labels),
        "correct": {},
    }
    if path.exists():
        table["correct"] = json.loads(path.read_text(encoding="utf-8"))["correct"]
    points = sorted(product(*(range(len(values)) for values in GRID.values())), key=lambda index: index[2])
    for index in points:
        key = ",".join(map(str, index))
        if key in table["correct"]:
            continue
        values = {name: GRID[name][i] for name, i in zip(GRID, index, strict=True)}
        table["correct"][key] = correct_answers(TrialSettings(epochs=EPOCHS, batch_size=BATCH_SIZE, **values), data)
        write(path, table)
        print(f"{noise} % noise: {len(table['correct'])} of {len(points)}", flush=True)


def correct_answers(settings: TrialSettings, data: DeviceDataset) -> list[int]:
    """Counts the validation images that were right after each epoch; 0 from where a trial diverged."""
    trainer = Trainer(settings, data)
    counts = [0] * settings.epochs
    try:
        for epoch in range(settings.epochs):
            counts[epoch] = round(trainer.train_epoch()["val_accuracy"] * len(data.validation_labels))
    except TrainingDiverged as error:
        print(f"{settings.model_dump(include=set(GRID))}: {error}")
    return counts


def write(path: Path, table: dict[str, Any]) -> None:
    """Replace the table at once, so that an interruption leaves the one before."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")
    os.replace(new, path)


def main() -> None:
    """Fill the tables, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--noise", type=int, nargs="+", default=[40, 60], help="percent of wrong labels")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for noise in arguments.noise:
        tabulate(noise, arguments.folder / f"digits_{noise}.json")


if __name__ == "__main__":
    main()
