"""A search as an Optuna study, rebuilt from its journal: in memory for the report, as a file for Optuna's tools."""

from __future__ import annotations

import tempfile
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from trainables.errors import one_line
from tune_mentormix.config.search_space import SearchSpace, parse_space
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment
from tune_mentormix.storage.yaml_files import YamlDocument

optuna.logging.set_verbosity(optuna.logging.WARNING)

OPTUNA_STATES = {
    "pending": TrialState.WAITING,
    "running": TrialState.RUNNING,
    "stopped_early": TrialState.PRUNED,
    "finished": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
}


def rebuild_study(experiment: Experiment) -> optuna.Study:
    """Returns all trials of a search as a study in memory, in the order in which they were proposed.

    User attributes of a trial: `trial`, its number in the search; `control`, the name of a control; `error`, why it
    failed. Trials outside the space, and controls that train another method, have no params.
    """
    study = optuna.create_study(direction="maximize", study_name=experiment.name)
    _add_trials(study, experiment)
    return study


def write_study(experiment: Experiment, file: Path) -> Path:
    """Writes the study to a new file, an Optuna journal storage, and returns its path.

    `optuna-dashboard FILE` shows it; `optuna.load_study` opens it. Start and end times are those of the writing.
    Raises RequestError if the file exists already or cannot be written.
    """
    try:
        if file.exists():
            raise RequestError(f"{file} exists already: choose another file, or delete it first (--study)")
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".study-") as folder:  # no half-written file is left
            unfinished = Path(folder) / "study"
            storage = JournalStorage(JournalFileBackend(str(unfinished)))
            study = optuna.create_study(direction="maximize", study_name=experiment.name, storage=storage)
            study.set_user_attr("metric", experiment.settings.metric)
            study.set_user_attr("split", "validation")
            study.set_user_attr("labels", experiment.labels_kind)
            _add_trials(study, experiment)
            unfinished.rename(file)
    except OSError as error:
        raise RequestError(f"cannot write {file}: {one_line(error)} (--study)") from error
    return file


def _add_trials(study: optuna.Study, experiment: Experiment) -> None:
    space = parse_space(YamlDocument(experiment.space, SEARCH_FILE))
    study.add_trials(_trial(experiment, number, space) for number in sorted(experiment.trials))


def _trial(experiment: Experiment, number: int, space: SearchSpace) -> FrozenTrial:
    trial = experiment.trials[number]
    attributes = {"trial": number, "control": trial.control, "error": trial.error}
    params = None if trial.is_baseline else space.searched_values(trial.config)
    curve = trial.scores
    state = OPTUNA_STATES[trial.state]
    ended = state in (TrialState.COMPLETE, TrialState.PRUNED)
    return create_trial(
        state=TrialState.FAIL if state == TrialState.COMPLETE and not curve else state,  # Optuna wants a value
        value=curve[max(curve)] if ended and curve else None,
        params=params or {},
        distributions=space.distributions if params else {},
        intermediate_values=curve,
        user_attrs={key: value for key, value in attributes.items() if value is not None},
    )
