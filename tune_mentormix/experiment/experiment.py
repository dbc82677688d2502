"""An experiment directory read back: its trials, their curves, the best, the state of the search.

All of it is rebuilt by replaying the journal: `Experiment.apply` handles each event. The driver keeps one such object
up to date while it runs, a reader builds one from the file.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from trainables.errors import describe_value
from trainables.settings import MAX_COUNT, metric_key
from tune_mentormix.config.settings import (
    FORMAT,
    SEARCH_WIDE,
    SearchSettings,
    check_name,
    with_storage,
)
from tune_mentormix.config.settings_file import refuse_newer
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment import events
from tune_mentormix.experiment.provenance import Provenance
from tune_mentormix.experiment.schemas import (
    BestTrial,
    ExpectedGain,
    SearchState,
    SearchStatus,
    TrialCounts,
    TrialState,
    UsableNodes,
)
from tune_mentormix.experiment.trial import ComputeUsage, PackedAnswers, Trial
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.lease import Lease
from tune_mentormix.storage.listing import folders_holding, has_file
from tune_mentormix.storage.paths import SUBMISSIONS_FOLDER, Location, check_bucket, local_path
from tune_mentormix.storage.waiting import StorageWait
from tune_mentormix.storage.yaml_files import YamlDocument, read_yaml

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

logger = logging.getLogger(__name__)

SEARCH_FILE = events.SEARCH_FILE
ENDED_EARLY = ("patience", "until_gain", "exhausted")  # why a search may be over before `num_samples` trials


@dataclass
class Experiment:
    """A search as its journal tells it."""

    path: Location
    settings: SearchSettings  # that the search was started with; a resume may have changed those of RESUMABLE
    provenance: Provenance = field(default_factory=Provenance)
    trials: dict[int, Trial] = field(default_factory=dict)
    runs: int = 0
    num_samples: int = 0
    rungs: list[int] = field(default_factory=list)  # the epochs after which hopeless trials are stopped
    epochs_run: int = 0
    ended: str | None = None  # why the last run ended; None while it runs, or where it was killed
    seconds: float = 0.0  # that runs took, without the time between them
    last_event: float = 0.0  # Unix seconds
    started_with: dict[str, Any] = field(
        default_factory=dict
    )  # settings that may not change; journals of 0.1.0: none
    expected_gain: ExpectedGain | None = None  # of further trials; None where too few have finished to tell
    nodes: UsableNodes | None = None  # of the run that goes on; None in journals that do not tell
    last_run: events.RunStarted = field(default_factory=events.RunStarted)
    usage: ComputeUsage = field(default_factory=ComputeUsage)  # an epoch that was run twice counts twice

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def hyperparameters(self) -> list[str]:
        """The hyperparameters that are searched, in the order of the space."""
        return [name for name, entry in self.space.items() if isinstance(entry, dict)]

    @property
    def space(self) -> dict[str, Any]:
        """The search space as it is written out in `search.yaml`; empty where the settings only name one."""
        return self.settings.space if isinstance(self.settings.space, dict) else {}

    def settings_record(self) -> dict[str, Any]:
        """Returns the settings as `search.yaml` holds them, without the provenance."""
        return {"format": FORMAT, **self.settings.model_dump(mode="json", warnings=False)}

    def search_record(self) -> dict[str, Any]:
        """Returns what `search.yaml` holds: the settings and the provenance."""
        return self.settings_record() | {"provenance": self.provenance.model_dump(mode="json")}

    def apply(self, event: events.Event) -> None:
        """Handles one event of the journal. Raises KeyError if it names a trial that was never proposed."""
        if self.last_event and not isinstance(event, events.RunStarted):
            self.seconds += event.time - self.last_event
        self.last_event = event.time
        match event:
            case events.Report():
                trial = self.trials[event.trial]
                if not trial.has_ended:
                    trial.state = "running"
                trial.reports[event.epoch] = event.metrics
                self._keep_answers(trial, event)
                trial.attempt = event.attempt or trial.attempt
                trial.node = event.node or trial.node
                self.epochs_run += 1
                self._add_usage(trial, event)
            case events.Checkpoint():
                self.trials[event.trial].checkpoints.append((event.epoch, event.path))
            case events.Proposed():
                needed = [*self.space, *sorted(SEARCH_WIDE)] if self.space else []
                missing = next((name for name in needed if name not in event.config), None)
                if missing:
                    raise ValueError(f"the configuration of trial {event.trial} has no {missing}")
                self.runs = max(self.runs, event.run or 0)
                trial = self.trials.setdefault(
                    event.trial,
                    Trial(
                        event.trial,
                        event.config,
                        event.control,
                        event.is_enqueued,
                        fold=event.fold,
                        metric=self.metric,
                    ),
                )
                trial.state, trial.attempt, trial.node = "running", event.attempt or trial.attempt, None
            case events.NoiseEstimated():
                self.trials[event.trial].noise = event.noise
            case events.Finished():
                self.trials[event.trial].state = "finished"
            case events.Stopped():
                self.trials[event.trial].state = "stopped_early"
            case events.Failed():
                trial = self.trials[event.trial]
                trial.state, trial.error, trial.node = "failed", event.error, event.node or trial.node
                trial.worker_lost = event.worker_lost
            case events.GainExpected():
                self.expected_gain = ExpectedGain.model_validate(event)
            case events.NodesChanged():
                self.nodes = UsableNodes.model_validate(event)
            case events.RunStarted():
                self.last_run = event
                self.runs, self.ended = event.run or self.runs + 1, None
                self.num_samples, self.rungs = event.num_samples or self.num_samples, event.rungs
                self.started_with = self.started_with or event.settings or {}
            case events.RunEnded():
                self.ended = event.reason
        if isinstance(event, events.RunStarted | events.RunEnded):
            self.nodes = None
            self.set_pending()

    def set_pending(self) -> None:
        """Marks the trials that have not ended as pending: no driver trains them now."""
        for trial in self.unfinished():
            trial.state = "pending"

    def _keep_answers(self, trial: Trial, report: events.Report) -> None:
        bits = self.path / report.val_correct_file if report.val_correct_file else report.val_correct
        if bits and report.val_images:
            trial.answers[report.epoch] = PackedAnswers(bits, report.val_images)

    def _add_usage(self, trial: Trial, report: events.Report) -> None:
        """Counts an epoch with the resources of its own run: a resume may give trials others than before."""
        seconds = report.metrics.get("epoch_seconds")
        if not isinstance(seconds, int | float):
            return
        run, settings = self.last_run, self.settings
        cpus = settings.cpus_per_trial if run.cpus_per_trial is None else run.cpus_per_trial
        gpus = settings.gpus() if run.gpus_per_trial is None else run.gpus_per_trial
        for usage in (self.usage, trial.usage):
            usage.add(seconds, cpus, gpus)

    def unfinished(self) -> list[Trial]:
        """Returns the trials that were proposed and have not come to an end, by number."""
        return [self.trials[n] for n in sorted(self.trials) if not self.trials[n].has_ended]

    def best(self, with_mentor: bool = False) -> Trial | None:
        """Returns the trial with the highest metric at the last epoch, controls included.

        Only trials that ran to the end are compared, since values at different epochs are not comparable;
        while there are none, the latest reports are. `with_mentor` leaves out trials without MentorMix.
        """
        scored = [
            trial
            for trial in self.trials.values()
            if trial.score is not None and trial.state != "failed" and (trial.uses_mentor or not with_mentor)
        ]
        candidates = [t for t in scored if t.state == "finished"] or scored
        return max(candidates, key=lambda t: (t.score, -t.number), default=None)

    def finished_trials(self) -> list[Trial]:
        """Returns the trials that ran to the end, controls included, in the order in which they were proposed."""
        return [trial for trial in self.trials.values() if trial.state == "finished"]

    def ranked_trials(self) -> list[Trial]:
        """Returns the trials that ran to the end, controls included, best first, each configuration once."""
        finished = self.finished_trials()
        finished.sort(key=lambda trial: (-inf if trial.score is None else trial.score, -trial.number), reverse=True)
        ranked: list[Trial] = []
        for trial in finished:
            if all(trial.config != other.config for other in ranked):
                ranked.append(trial)
        return ranked

    def controls(self) -> dict[str, Trial]:
        """Returns the controls that ran to the end, by name."""
        return {t.control: t for t in self.trials.values() if t.control and t.state == "finished"}

    def counts(self) -> dict[TrialState, int]:
        """Counts the trials by state; those not yet proposed are pending, so that all add up to `num_samples`."""
        counts: dict[TrialState, int] = dict.fromkeys(get_args(TrialState), 0)
        for trial in self.trials.values():
            counts[trial.state] += 1
        counts["pending"] += max(0, self.num_samples - len(self.trials))
        return counts

    def ended_trials(self) -> int:
        """Counts the trials that have ended, in whatever way."""
        return len(self.trials) - len(self.unfinished())

    def state(self) -> SearchState:
        """Returns `running` if a live driver holds the experiment, else as it was left."""
        return "running" if Lease(self.path).holder() else self.left_as()

    def waiting(self) -> StorageWait | None:
        """Returns since when the driver waits for the storage, and why; None if it does not, or none runs."""
        return Lease(self.path).waiting()

    def left_as(self) -> SearchState:
        """Returns `finished` if no trial is left to run or to propose, if no driver runs the experiment."""
        all_proposed = len(self.trials) >= self.num_samples or self.ended in ENDED_EARLY
        return "finished" if self.runs and all_proposed and not self.unfinished() else "interrupted"

    def status(self) -> SearchStatus:
        """Returns what `status --json` shows."""
        best, shown, state = self.best(), None, self.state()
        if best:
            shown = BestTrial(
                trial_id=best.number,
                val_accuracy=best.val_accuracy,
                epoch=best.epoch,
                config=best.config,
                score=best.score,
            )
        return SearchStatus(
            name=self.name,
            owner=self.settings.owner,
            state=state,
            waiting=self.waiting() if state == "running" else None,
            nodes=self.nodes if state == "running" else None,
            ended=self.ended,
            trials=TrialCounts(**self.counts()),
            num_samples=self.num_samples,
            epochs_run=self.epochs_run,
            split="validation",
            labels=self.labels_kind,
            metric=self.metric,
            best=shown,
            expected_gain=self.expected_gain,
            controls={name: trial.val_accuracy for name, trial in self.controls().items()},
            settings=self.settings_record(),
        )

    @property
    def metric(self) -> str:
        """The metric that the search maximises, by its name in the reports."""
        return metric_key(self.settings.metric)

    @property
    def labels_kind(self) -> str:
        """Whether the validation labels are `noisy` or `clean`."""
        return self.provenance.dataset.validation_labels


def experiment_path(storage: Location, name: str) -> Location:
    """Returns the folder of an experiment. Raises RequestError if the name is not safe as one."""
    try:
        return storage / check_name(name)
    except ValueError as error:
        raise RequestError(f"name {error}") from error


def read_experiment(storage: Location, name: str) -> Experiment:
    """Reads an experiment. Raises RequestError if there is none, a newer version wrote it, or it is damaged."""
    path = experiment_path(storage, name)
    if not has_file(path / SEARCH_FILE):
        check_bucket(storage)
        if (storage / SUBMISSIONS_FOLDER / name).exists():
            jobs, logs = with_storage("jobs", storage), with_storage(f"logs {name}", storage)
            raise RequestError(f"{name} was submitted, and has not started to search yet: see {jobs}, and {logs}")
        others = ", ".join(folders_holding(storage, SEARCH_FILE)[:10])
        known = f"; there are: {others}" if others else " (nothing was searched there yet)"
        raise RequestError(f"there is no experiment {name!r} in {storage}{known}")
    experiment = open_experiment(path)
    events.replay(path / JOURNAL_FILE, experiment.apply)
    if experiment.counts()["running"] and not Lease(path).holder():
        experiment.set_pending()  # the driver was killed
    return experiment


def open_experiment(path: Location) -> Experiment:
    """Returns an experiment before any event of its journal. Raises RequestError as `read_experiment` does."""
    document = read_yaml(path / SEARCH_FILE)
    if "format" not in document.values:
        raise RequestError(f"{document.source} names no format: it was damaged, or no search wrote it; restore it")
    refuse_newer(document)
    settings = _read_settings(document)
    try:
        provenance = Provenance.model_validate(document.values.get("provenance", {}))
    except ValidationError as error:
        first = error.errors()[0]
        reason = describe_value(first | {"loc": ("provenance", *first["loc"])})
        raise RequestError(f"{document.source} is damaged: {reason}; restore it") from error
    return Experiment(path, settings, provenance, num_samples=settings.num_samples)


def _read_settings(document: YamlDocument) -> SearchSettings:
    """Reads the settings of a `search.yaml` that another version may have written.

    A key that this version does not know is left out, a value that it no longer has (`scheduler: pbt`) stays as it
    is: such a search can be shown, and `stored_settings` refuses to resume it.
    """
    values = {key: value for key, value in document.values.items() if key in SearchSettings.model_fields}
    try:
        return SearchSettings.model_validate(values)
    except ValidationError as error:
        gone = {str(each["loc"][0]) for each in error.errors() if _is_of_another_version(each)}
        other = next((each for each in error.errors() if not _is_of_another_version(each)), None)
        if other:
            place = document.place(*map(str, other["loc"][:1]))
            raise RequestError(f"{describe(other, SearchSettings)} ({place})") from error
    known = SearchSettings.model_validate({key: values[key] for key in values.keys() - gone})
    return known.model_copy(update={key: values[key] for key in gone})


def _is_of_another_version(error: ErrorDetails) -> bool:
    """Whether an earlier version took a value: a choice that is gone, or more GPUs than the one that trains."""
    gpus = error["input"] if error["loc"][:1] == ("gpus_per_trial",) else 0
    is_choice = error["type"] in ("literal_error", "string_pattern_mismatch")
    return is_choice or (isinstance(gpus, int | float) and 1 < gpus <= MAX_COUNT)


def list_experiments(storage: Location) -> tuple[list[Experiment], dict[str, str]]:
    """Reads all experiments of a storage; also returns, by name, why others cannot be read. Raises StorageError."""
    check_bucket(storage)
    experiments, unreadable = [], {}
    for name in folders_holding(storage, SEARCH_FILE):
        try:
            experiment = read_experiment(storage, name)
            if local_path(storage):
                experiment.state()  # its lease too can be read
            experiments.append(experiment)
        except RequestError as error:
            unreadable[name] = str(error)
    return experiments, unreadable
