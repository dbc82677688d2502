import shutil
from pathlib import Path

import pytest

from tests.support.searches import folder_of
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.report.page import write_report
from tune_mentormix.results.ablation import ablated_configs, ablation_rows, read_ablation
from tune_mentormix.search.ablate import run_ablation
from tune_mentormix.storage.journal import Journal


def quiet(_ablation: Experiment) -> None:
    """Shows no progress."""


@pytest.fixture
def searched(finished_search: Experiment, tmp_path: Path) -> Experiment:
    """A finished search whose best is a trial that was proposed, not the published setting."""
    shutil.copytree(folder_of(finished_search), tmp_path / "done")
    best = finished_search.trials[4]
    journal = Journal(tmp_path / "done" / "journal.jsonl")
    report = {**best.reports[best.epoch], "val_accuracy": 0.99}
    journal.append("report", trial=4, attempt=1, epoch=best.epoch, **report)
    journal.append("finished", trial=4, epoch=best.epoch)
    journal.close()
    return read_experiment(tmp_path, "done")


def test_one_hyperparameter_is_moved_back_at_a_time_and_none_that_agrees() -> None:
    best = {"mixup_alpha": 2.0, "burn_in": 10.0, "second_reweight": True}
    published = {"mixup_alpha": 8.0, "burn_in": 10.0, "second_reweight": False}
    assert ablated_configs(best, published, list(best)) == [
        {"mixup_alpha": 8.0, "burn_in": 10.0, "second_reweight": True},
        {"mixup_alpha": 2.0, "burn_in": 10.0, "second_reweight": False},
    ]


def test_an_ablation_trains_each_move_once_and_the_report_shows_it(searched: Experiment, tmp_path: Path) -> None:
    ablation = run_ablation(tmp_path, "done", quiet)
    best = searched.best()
    assert best is not None
    rows = ablation_rows(ablation, best)
    assert {row.name for row in rows} >= {"mixup_alpha", "loss_p_percentile", "burn_in"}
    for row in rows:
        assert row.best_value != row.published_value
        assert row.val_accuracy is not None
        assert row.change == pytest.approx(row.val_accuracy - 0.99)
    assert [row.change for row in rows] == sorted(row.change or 0 for row in rows)

    again = run_ablation(tmp_path, "done", quiet)
    assert again.epochs_run == ablation.epochs_run, "what was trained is not trained again"
    assert read_ablation(searched) is not None
    page = write_report(searched, tmp_path / "report.html").read_text()
    assert "What each hyperparameter is worth" in page


def test_there_is_nothing_to_move_back_before_a_trial_ran_to_the_end(
    finished_search: Experiment, tmp_path: Path
) -> None:
    shutil.copytree(folder_of(finished_search), tmp_path / "done")
    (tmp_path / "done" / "journal.jsonl").write_text("")
    with pytest.raises(RequestError, match="nothing to move back"):
        run_ablation(tmp_path, "done", quiet)
