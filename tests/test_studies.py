"""Every study of `benchmarks/studies/` is a settings file that can be trained, here on small stand-in images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables import data as datasets
from trainables.data import load_dataset
from trainables.data.sources import Source, Split, positions_as_names
from trainables.device import DeviceDataset
from trainables.settings import DatasetName, DataSettings, TrialSettings
from trainables.training import Trainer
from tune_mentormix.config.search_space import resolve_space
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.search.plan import SearchRequest

pytestmark = pytest.mark.slow

STUDIES = Path(__file__).parents[1] / "benchmarks" / "studies"
NAMES = sorted(path.stem for path in STUDIES.glob("*.yaml"))
RUNS = [name for name in NAMES if not name.endswith("-search")]

# The reference's own table (Jiang et al. 2020): noise rate → mixup_alpha, loss_p_percentile, second_reweight.
PUBLISHED = {
    "cifar10": {0.2: (2, 0.8, False), 0.4: (8, 0.6, False), 0.6: (8, 0.6, True), 0.8: (4, 0.2, True)},
    "cifar100": {0.2: (2, 0.7, False), 0.4: (8, 0.5, False), 0.6: (4, 0.3, True), 0.8: (8, 0.1, True)},
}
SIDE = 4  # pixels, so that two steps of the wide network take a second
IMAGES = 5_000  # a ten-thousandth of which is left to validate on


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Random images under the names of the data sets, which are not downloaded."""

    def cifar(settings: DataSettings, split: Split) -> Source:
        count = 10 if settings.dataset == "cifar10" else 100
        random = np.random.default_rng(0)
        images = random.integers(0, 256, size=(IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
        labels = np.arange(IMAGES) % count
        names = tuple(f"class {number}" for number in range(count))
        return Source(IMAGES, names, labels, labels, positions_as_names(IMAGES), lambda index: images[index])

    sources: dict[DatasetName, object] = {"cifar10": cifar, "cifar100": cifar}
    for name, source in sources.items():
        monkeypatch.setitem(datasets.DATASETS, name, source)


def settings_of(name: str, folder: Path) -> SearchSettings:
    """A study's settings, its label files and folders replaced by small ones in `folder`."""
    settings = read_settings(STUDIES / f"{name}.yaml", {})
    random = np.random.default_rng(1)
    if settings.dataset == "folder":
        (folder / "train").mkdir()
        (folder / "test" / "0").mkdir(parents=True)
        lines = []
        for number in range(1_000):
            pixels = random.integers(0, 256, size=(SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "train" / f"{number}.png")
            lines.append(f"{number}.png {number % 100}")
        (folder / "split").write_text("\n".join(lines))
        moved = {"data_dir": folder, "labels_file": folder / "split", "image_size": SIDE}
        return settings.model_copy(update={**moved, "cache_dir": folder / "cache"})
    if settings.labels_file is not None:
        assert settings.labels_key is not None
        labels = np.arange(IMAGES) % 10
        noisy = np.where(random.random(IMAGES) < 0.4, random.integers(0, 10, IMAGES), labels)
        torch.save({"clean_label": labels, settings.labels_key: noisy}, folder / settings.labels_file.name)
        return settings.model_copy(update={"labels_file": folder / settings.labels_file.name})
    return settings


def request_of(name: str, folder: Path) -> SearchRequest:
    """A study's settings with its space and its stand-in data."""
    settings, space = resolve_space(settings_of(name, folder))
    return SearchRequest(settings, space, load_dataset(settings.data_settings()))


def first_trial(request: SearchRequest) -> dict[str, Any]:
    """All settings of the trial that runs first: the control `published`, or the first that the study names."""
    if request.settings.controls:
        return request.control_settings()["published"]
    common = request.settings.common_trial_settings() | request.space.fixed
    return TrialSettings(**(common | request.settings.first_trials[0])).model_dump()


def test_the_eight_published_cells_have_a_run_and_a_search_each() -> None:
    cells = [f"{dataset}-noise-{noise}" for dataset, rows in PUBLISHED.items() for noise in rows]
    assert set(cells) | {f"{cell}-search" for cell in cells} <= set(NAMES)
    assert {f"{name}-search" for name in RUNS} == set(NAMES) - set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_trains_the_published_values_for_its_noise(name: str, tmp_path: Path) -> None:
    request = request_of(name, tmp_path)
    trial = first_trial(request)

    assert request.settings.num_samples == 1
    assert request.settings.common_trial_settings().items() <= trial.items()
    assert (trial["network"], trial["epochs"], trial["burn_in"]) == ("resnet32_wide", 512, 10)
    assert (trial["mentor"], trial["augmentation"], trial["ema"]) == ("mentornet_pd", "reference", 0.05)
    assert trial["decay_under_second_reweight"] is False
    if request.settings.labels_file is None:
        dataset, noise = request.settings.dataset, request.settings.noise
        values = trial["mixup_alpha"], trial["loss_p_percentile"], trial["second_reweight"]
        assert values == PUBLISHED[dataset][noise]


@pytest.mark.parametrize("name", NAMES)
def test_a_study_trains_two_steps(name: str, tmp_path: Path) -> None:
    """The first step, in burn-in, and the last one, in which every rule of the study acts."""
    request = request_of(name, tmp_path)
    values = first_trial(request)
    if name not in RUNS:  # the search's own trials, all of whose rules are switched on
        values |= {"second_reweight": True, "mixup_alpha": 0.4, "loss_p_percentile": 0.9, "burn_in": 15.0}
        assert request.space.values_inside(values) is not None
    data = DeviceDataset(request.dataset, "cpu")
    trainer = Trainer(TrialSettings(**(values | {"batch_size": 16})), data)  # no rule depends on it, the time does
    batch_index = torch.arange(trainer.settings.batch_size)

    steps = trainer.settings.epochs * (len(data.train_labels) // trainer.settings.batch_size)
    losses = [trainer.train_step(step, batch_index)[0].item() for step in (0, steps - 1)]

    assert all(math.isfinite(loss) for loss in losses)
