import json
from pathlib import Path

import pytest

from tests.support.simulated_search import simulate_search
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.export.manifest import CARD_FILE, CONFIG_FILE, PROVENANCE_FILE
from tune_mentormix.export.read import read_exported
from tune_mentormix.export.train import train_in_full
from tune_mentormix.export.write import export_best
from tune_mentormix.storage.yaml_files import read_yaml, write_yaml


def ignore(_report: dict[str, float], _epochs: int) -> None:
    """Shows no progress."""


@pytest.fixture
def exported(finished_search: Experiment, tmp_path: Path) -> Path:
    return export_best(finished_search, tmp_path / "best").folder / CONFIG_FILE


def test_the_file_holds_the_best_trial_with_its_split_and_labels(finished_search: Experiment, exported: Path) -> None:
    best = finished_search.best()
    assert best is not None
    values = read_yaml(exported).values
    assert exported.name == "best_config.yaml"
    assert values["config"] == best.config
    assert (values["val_accuracy"], values["epoch"]) == (best.val_accuracy, best.epoch)
    assert (values["split"], values["labels"]) == ("validation", "noisy")
    assert set(values["controls"]) == {"published", "plain"}


def test_where_plain_training_is_best_it_is_exported_unless_mentormix_is_asked_for(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "short", 6, epochs=6)
    plain = experiment.controls()["plain"]
    plain.reports[plain.epoch]["val_accuracy"] = 0.9
    folders = [
        export_best(experiment, tmp_path / str(with_mentor), with_mentor=with_mentor).folder
        for with_mentor in (False, True)
    ]
    values = [read_yaml(folder / CONFIG_FILE).values for folder in folders]
    chosen = [json.loads((folder / PROVENANCE_FILE).read_text())["chosen"] for folder in folders]
    assert [values[0]["config"]["mentor"], values[1]["config"]["mentor"] != "uniform"] == ["uniform", True]
    assert ["with MentorMix" in how for how in chosen] == [False, True]
    assert "trained with neither mixup nor MentorMix" in (folders[0] / CARD_FILE).read_text()


def test_training_it_reproduces_the_searchs_accuracy_bit_for_bit(
    finished_search: Experiment, exported: Path, tmp_path: Path
) -> None:
    report = train_in_full(read_exported(exported), tmp_path / "out", None, ignore)
    best = finished_search.best()
    assert best is not None
    assert report["val_accuracy"] == best.val_accuracy
    assert report["train_loss"] == best.reports[best.epoch]["train_loss"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == report


def test_an_interrupted_training_resumes_and_ends_like_one_that_was_not(exported: Path, tmp_path: Path) -> None:
    def interrupt(report: dict[str, float], _epochs: int) -> None:
        if report["epoch"] == 2:
            raise KeyboardInterrupt

    undisturbed = train_in_full(read_exported(exported), tmp_path / "whole", None, ignore)
    with pytest.raises(KeyboardInterrupt):
        train_in_full(read_exported(exported), tmp_path / "cut", None, interrupt)
    seen: list[float] = []
    resumed = train_in_full(read_exported(exported), tmp_path / "cut", None, lambda r, _: seen.append(r["epoch"]))
    assert seen == [3, 4]
    assert resumed["train_loss"] == undisturbed["train_loss"]


def test_another_seed_is_another_training(exported: Path, tmp_path: Path) -> None:
    first = train_in_full(read_exported(exported), tmp_path / "a", None, ignore)
    second = train_in_full(read_exported(exported), tmp_path / "b", 7, ignore)
    assert first["train_loss"] != second["train_loss"]
    with pytest.raises(RequestError, match="training of another configuration"):
        train_in_full(read_exported(exported), tmp_path / "b", None, ignore)


def test_other_data_than_those_of_the_search_are_refused(exported: Path, tmp_path: Path) -> None:
    changed = read_exported(exported).model_copy(update={"fingerprint": "0" * 64})
    with pytest.raises(RequestError, match="fingerprints differ"):
        train_in_full(changed, tmp_path / "out", None, ignore)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("config", {"loss_p_percentile": 1.7}, r"loss_p_percentile must be a number in \(0, 1\), got 1.7"),
        ("config", {"mixup_alfa": 1.0}, "unknown key 'mixup_alfa'; did you mean 'mixup_alpha'?"),
        ("data", {"dataset": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?"),
        ("format", 2, "this version reads up to 1: upgrade"),
    ],
)
def test_a_wrong_exported_value_is_named(exported: Path, key: str, value: object, complaint: str) -> None:
    write_yaml(exported, read_yaml(exported).values | {key: value})
    with pytest.raises(RequestError, match=complaint):
        read_exported(exported)


def test_a_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    write_yaml(tmp_path / "a.yaml", {"epochs": 3})
    with pytest.raises(RequestError, match="is no exported configuration"):
        read_exported(tmp_path / "a.yaml")


def test_a_search_without_a_result_exports_nothing(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no result to export yet"):
        export_best(Experiment(tmp_path / "empty", SearchSettings()), tmp_path / "best")
    assert not (tmp_path / "best").exists()
