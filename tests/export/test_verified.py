"""Exports and reports of a search with verified labels rest on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.verifiable_search import MISLED, RIGHT, made_up_search, right_labels
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.export.manifest import CARD_FILE, CONFIG_FILE, PROVENANCE_FILE
from tune_mentormix.export.write import export_best
from tune_mentormix.report.page import Report, write_report
from tune_mentormix.results.verification_pool import current_pool, load_experiment_data
from tune_mentormix.results.verified_labels import record_answers
from tune_mentormix.storage.yaml_files import read_yaml


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A search whose noisy labels mislead, and 60 verified labels."""
    experiment = made_up_search(tmp_path_factory.mktemp("verified"))
    pool, right = current_pool(experiment, *load_experiment_data(experiment)), right_labels(experiment)
    record_answers(experiment.path, {pool.images[p]: right[pool.images[p]] for p in pool.order[:60]}, "ann")
    return experiment


def test_the_trial_that_verified_labels_choose_is_exported(verified: Experiment, tmp_path: Path) -> None:
    exported = export_best(verified, tmp_path / "best")

    values = read_yaml(tmp_path / "best" / CONFIG_FILE).values
    assert values["trial"] == RIGHT
    assert values["verification"]["verified"] == 60
    provenance = json.loads((tmp_path / "best" / PROVENANCE_FILE).read_text())
    assert provenance["chosen"].startswith("by 60 labels that people verified and the noisy validation labels")
    assert provenance["verification"]["candidates"][0]["trial"] == RIGHT
    card = (tmp_path / "best" / CARD_FILE).read_text()
    assert "A gain on verified labels" in card
    assert "It was chosen by the accuracy shown above" not in card
    assert "on right labels (60 verified)" in exported.accuracy


def test_the_report_shows_the_verified_labels_and_their_choice(verified: Experiment, tmp_path: Path) -> None:
    assert Report(verified).best is verified.trials[RIGHT]

    page = write_report(verified, tmp_path / "report.html").read_text()

    assert "<h2>Verified labels</h2>" in page
    assert "A gain on verified labels" in page
    assert f"trial {MISLED}, the best on noisy labels" in page
    assert "was chosen by verified labels, see below" in page
    assert "so its accuracy flatters it" not in page
