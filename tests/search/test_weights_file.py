"""A search that starts from a weights file records its digest, and refuses to resume with another file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainables.models.resnet import small_cnn
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.create import hold_new_experiment
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.experiment.provenance import Provenance
from tune_mentormix.search.plan import new_request, stored_request


def write_weights(file: Path, seed: int) -> None:
    """Weights of `small_cnn` for 10 classes of grey images."""
    torch.manual_seed(seed)
    save_file({name: weight.contiguous() for name, weight in small_cnn(10, 1).state_dict().items()}, file)


@pytest.mark.parametrize("place", ["trial", "space"])
def test_a_search_goes_on_with_the_weights_file_that_it_began_with(
    place: str, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    file = tmp_path / "weights.safetensors"
    write_weights(file, seed=0)
    alpha = {"mixup_alpha": {"low": 1.0, "high": 9.0}}
    start = {"trial": {"weights": str(file)}} if place == "trial" else {"space": alpha | {"weights": str(file)}}
    request = new_request(small_settings(tmp_path, name="tuned", **start))
    experiment = Experiment(
        tmp_path / "tuned", request.settings, Provenance.collect(request.dataset, request.settings)
    )
    with hold_new_experiment(experiment, request.dataset):
        pass
    stored = read_experiment(tmp_path, "tuned")
    assert list(stored.provenance.weights) == [str(file)]
    stored_request(stored, stored.settings)
    write_weights(file, seed=1)
    with pytest.raises(
        RequestError, match=r"weights .*weights.safetensors are not those that tuned began with: restore"
    ):
        stored_request(stored, stored.settings)
    file.unlink()
    with pytest.raises(RequestError, match=r"weights .*weights.safetensors cannot be read: No such file"):
        stored_request(stored, stored.settings)
