import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.support.simulated_search import SimulatedFailures, simulate_search
from tune_mentormix.cli.app import run
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import DONE, WRONG_REQUEST
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.optuna_study import rebuild_study, write_study
from tune_mentormix.experiment.trial import Trial

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    failures = SimulatedFailures({3: "train_loss is nan in epoch 3"}, unfinished=(11,))
    return simulate_search(tmp_path_factory.mktemp("searched"), "birds", 12, epochs=12, failures=failures)


def load(file: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(file))))


def test_a_study_has_every_trial_with_its_state_params_and_curve(searched: Experiment) -> None:
    study = rebuild_study(searched)
    assert [trial.user_attrs["trial"] for trial in study.trials] == list(range(12))
    states = {number: trial.state for number, trial in enumerate(study.trials)}
    assert (states[0], states[3], states[11]) == (TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING)
    stopped = {number for number, trial in searched.trials.items() if trial.state == "stopped_early"}
    assert stopped == {number for number, state in states.items() if state == TrialState.PRUNED} != set()
    for number, trial in enumerate(study.trials):
        assert trial.intermediate_values == searched.trials[number].curve
        assert trial.params.items() <= searched.trials[number].config.items()
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            assert trial.value == searched.trials[number].val_accuracy


def test_controls_are_named_and_those_of_another_method_have_no_params(searched: Experiment) -> None:
    published, mixup, plain, proposed, *_ = rebuild_study(searched).trials
    assert [trial.user_attrs.get("control") for trial in (published, mixup, plain, proposed)] == [
        "published", "mixup", "plain", None,
    ]  # fmt: skip
    assert set(published.params) == set(published.distributions) == set(searched.hyperparameters)
    assert (mixup.params, plain.params) == ({}, {})


def test_a_failed_trial_has_its_reason(searched: Experiment) -> None:
    assert rebuild_study(searched).trials[3].user_attrs["error"] == "train_loss is nan in epoch 3"


def test_a_finished_trial_without_an_accuracy_failed_for_optuna(tmp_path: Path) -> None:
    settings = SearchSettings(space={"mixup_alpha": {"low": 1, "high": 8}})
    trial = Trial(0, {"mixup_alpha": 2.0}, state="finished", reports={1: {"val_accuracy": None}})
    study = rebuild_study(Experiment(tmp_path, settings, trials={0: trial}))
    assert [each.state for each in study.trials] == [TrialState.FAIL]


def test_optuna_loads_the_written_study(searched: Experiment, tmp_path: Path) -> None:
    loaded = load(write_study(searched, tmp_path / "new" / "birds.study"))
    rebuilt = rebuild_study(searched)
    assert loaded.study_name == "birds"
    assert loaded.user_attrs == {"metric": "val_accuracy", "split": "validation", "labels": "noisy"}
    assert loaded.best_trial.number == rebuilt.best_trial.number
    for attribute in ("state", "values", "params", "distributions", "intermediate_values", "user_attrs"):
        written = [getattr(trial, attribute) for trial in loaded.trials]
        assert written == [getattr(trial, attribute) for trial in rebuilt.trials], attribute
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "birds.study"]


def test_a_loaded_study_can_propose_further_trials(searched: Experiment, tmp_path: Path) -> None:
    loaded = load(write_study(searched, tmp_path / "birds.study"))
    distributions = loaded.best_trial.distributions
    assert {loaded.ask(distributions).number for _ in range(2)} == {11, 12}  # the unfinished trial first


def test_an_existing_file_is_refused_and_kept(
    searched: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "birds", "--storage", str(searched.path.parent), "--study", str(tmp_path / "birds.study")]
    assert run(command) == DONE
    before = (tmp_path / "birds.study").read_bytes()
    assert run(command) == WRONG_REQUEST
    assert "birds.study exists already" in capsys.readouterr().err
    assert (tmp_path / "birds.study").read_bytes() == before


def test_a_study_that_cannot_be_written_is_refused(
    searched: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    storage = ["--storage", str(searched.path.parent)]
    assert run(["export", "birds", *storage, "--study", str(tmp_path / "file" / "birds.study")]) == WRONG_REQUEST
    assert "cannot write" in capsys.readouterr().err


def test_an_export_without_a_target_is_refused(searched: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "birds", "--storage", str(searched.path.parent)]) == WRONG_REQUEST
    assert "export needs --out FOLDER, or --study FILE, or both" in capsys.readouterr().err


def test_a_study_alone_is_written_without_torch_and_ray(searched: Experiment, tmp_path: Path) -> None:
    command = ["export", "birds", "--storage", str(searched.path.parent), "--study", str(tmp_path / "birds.study")]
    code = f"import sys\nfrom tune_mentormix.cli.app import run\nassert run({command!r}) == 0\n"
    code += "assert not {'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
