"""Presets are settings of a trial, and the reference's is what its published settings were found with."""

from __future__ import annotations

import pytest
import torch

from trainables.device import DeviceDataset
from trainables.settings import PRESETS, TrialSettings
from trainables.training import Trainer

DEPENDS_ON_THE_NOISE = {"mixup_alpha", "loss_p_percentile", "burn_in", "second_reweight"}
DEPENDS_ON_THE_BUDGET = {"network", "pretrained", "weights", "epochs", "precision", "compile", "seed"}


@pytest.mark.parametrize("name", ["reference", "paper"])
def test_a_preset_of_a_source_settles_every_rule_and_leaves_the_search_its_own(name: str) -> None:
    TrialSettings(**PRESETS[name])

    rules = set(TrialSettings.model_fields) - DEPENDS_ON_THE_NOISE - DEPENDS_ON_THE_BUDGET
    assert set(PRESETS[name]) == rules


def test_the_preset_for_fine_tuning_leaves_the_rules_of_mentormix() -> None:
    settings = TrialSettings(**PRESETS["finetune"])
    of_a_source = {"mentor", "mixing", "partner_temperature", "augmentation", "weight_decay", "ema"}
    assert not PRESETS["finetune"].keys() & (DEPENDS_ON_THE_NOISE | DEPENDS_ON_THE_BUDGET | of_a_source)
    assert settings.learning_rate < TrialSettings().learning_rate


def test_the_presets_differ_where_the_paper_and_the_reference_do() -> None:
    reference, paper = PRESETS["reference"], PRESETS["paper"]

    assert {key for key in reference if reference[key] != paper[key]} == {
        "mentor",
        "mixing",
        "decay_under_second_reweight",
    }


@pytest.mark.parametrize(
    ("preset", "second_reweight", "shrinks"),
    [("reference", False, True), ("reference", True, False), ("paper", False, True), ("paper", True, True)],
)
def test_the_reference_alone_has_no_weight_decay_under_second_reweight(
    data: DeviceDataset, preset: str, second_reweight: bool, shrinks: bool
) -> None:
    rules = {key: value for key, value in PRESETS[preset].items() if key != "augmentation"}  # digits are grey
    decays = [0.0, 1.0]
    plain, decayed = (
        Trainer(TrialSettings(**rules | {"second_reweight": second_reweight, "weight_decay": decay}), data)
        for decay in decays
    )

    for trainer in (plain, decayed):
        trainer.train_step(0, torch.arange(128))

    same = [
        torch.equal(weight, decayed_weight)
        for weight, decayed_weight in zip(plain.network.parameters(), decayed.network.parameters(), strict=True)
    ]
    assert all(same) != shrinks
