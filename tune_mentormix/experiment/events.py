"""The events of an experiment's journal, one class each, and the journal that hands them to its subscribers.

The fields stand in the order in which they are written. A field with a default may be missing in older journals;
fields that this version does not know are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from trainables.errors import shorten
from trainables.settings import MAX_COUNT, Count, TrialSettings
from tune_mentormix.config.settings import with_storage
from tune_mentormix.config.validation import describe
from tune_mentormix.errors import RequestError, unknown
from tune_mentormix.experiment.schemas import NoiseEstimate
from tune_mentormix.formatting import without_nan
from tune_mentormix.storage.journal import Journal
from tune_mentormix.storage.journal_backends import journal_lines
from tune_mentormix.storage.listing import has_file
from tune_mentormix.storage.paths import Location

TrialNumber = Annotated[int, Field(ge=0, le=MAX_COUNT)]


def _inside(path: str) -> str:
    if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"must be a path within the experiment, got {path!r}")
    return path


def _check_config(config: dict[str, Any]) -> dict[str, Any]:
    """Accepts names and choices of another version, but no value of another type."""
    try:
        TrialSettings.model_validate({name: config[name] for name in config.keys() & TrialSettings.model_fields})
    except ValidationError as error:
        for each in error.errors():
            if each["type"] not in ("literal_error", "value_error"):
                raise ValueError(describe(each, TrialSettings)) from error
    return config


Config = Annotated[dict[str, Any], AfterValidator(_check_config)]  # of a trial


class _Event(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False, validate_by_name=True)

    time: float = 0.0
    """Unix seconds; set when the event is written."""


class RunStarted(_Event):
    """A driver starts to run trials: of a new search, a resumed one, or a confirmation."""

    event: Literal["run_started"] = "run_started"
    run: Count | None = None
    num_samples: Count | None = None
    rungs: list[Count] = []
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None
    settings: dict[str, Any] | None = None
    """Of the first run, those that no resume may change."""


class RunEnded(_Event):
    """The driver ended the run itself; a killed one writes no such event."""

    event: Literal["run_ended"] = "run_ended"
    run: Count | None = None
    reason: str = "finished"
    signal: str | None = None
    """Which one interrupted the run: SIGINT, SIGTERM, or SIGHUP where the terminal was closed."""


class OutputLost(_Event):
    """What the driver prints cannot be written any more, and the run goes on without it."""

    event: Literal["output_lost"] = "output_lost"
    stream: str
    reason: str


class NodesChanged(_Event):
    """The nodes of the cluster that trials may use have changed, or for how many trials they have no room."""

    event: Literal["nodes"] = "nodes"
    nodes: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    """Those that were checked and are not about to leave."""
    room: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    """For so many trials at once."""
    waiting: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """So many further trials could run on further nodes, which were asked for."""


class Proposed(_Event):
    """A trial, or a new attempt of one, is about to start."""

    event: Literal["proposed"] = "proposed"
    trial: TrialNumber
    run: Count | None = None
    attempt: Count | None = None
    control: str | None = None
    enqueued: bool | None = Field(default=None, validation_alias="given", serialization_alias="given")
    """Whether it is a control or a warm start, not the sampler's choice; None in journals that do not tell."""
    fold: int | None = None
    """Which fold of the images the trial holds out; None: the validation split."""
    config: Config

    @property
    def is_enqueued(self) -> bool:
        """Whether the sampler did not choose the configuration."""
        return self.control is not None if self.enqueued is None else self.enqueued


class Report(_Event):
    """The metrics of one epoch; all but the validation accuracy are in `metrics`."""

    event: Literal["report"] = "report"
    trial: TrialNumber
    attempt: Count | None = None
    node: str | None = None
    epoch: Count
    val_accuracy: Annotated[float, Field(ge=0, le=1)] | None
    """None where it was NaN."""
    val_images: Count | None = None
    """How many validation images `val_correct` tells of."""
    val_correct: str | None = None
    """Which of them were given their own label: base64 of `numpy.packbits`. At rungs and the last epoch only."""
    val_correct_file: str | None = None
    """Instead of a long `val_correct`, the file that holds the bits; relative to the experiment's folder."""

    @model_validator(mode="before")
    @classmethod
    def _make_nan_none(cls, values: dict[str, Any]) -> dict[str, Any]:
        if all(isfinite(value) for value in values.values() if isinstance(value, float)):
            return values  # as nearly always: journals hold many reports
        return dict(without_nan(values))

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if isinstance(value, bool | list | dict):
                raise ValueError(f"{name} must be a number, got {shorten(value)}")
        return self

    @property
    def metrics(self) -> dict[str, Any]:
        """All metrics by name, `val_accuracy` first."""
        return {"val_accuracy": self.val_accuracy, **(self.model_extra or {})}

    def score(self, metric: str = "val_accuracy") -> float | None:
        """Returns the metric that a search maximises; None where it was NaN, or not reported."""
        value: float | None = self.metrics.get(metric)
        return value


class Checkpoint(_Event):
    """A checkpoint was stored; `path` is relative to the experiment's folder."""

    event: Literal["checkpoint"] = "checkpoint"
    trial: TrialNumber
    attempt: Count | None = None
    epoch: Annotated[int, Field(ge=0)]
    """0 where the trial failed in its first epoch; nothing is in the checkpoint then."""
    path: Annotated[str, AfterValidator(_inside)]


class Stopped(_Event):
    """Early stopping ended the trial."""

    event: Literal["stopped"] = "stopped"
    trial: TrialNumber
    epoch: Count | None = None


class Finished(_Event):
    """The trial trained all its epochs."""

    event: Literal["finished"] = "finished"
    trial: TrialNumber
    epoch: Count | None = None


class Failed(_Event):
    """The trial failed by its own fault, or its workers died too often."""

    event: Literal["failed"] = "failed"
    trial: TrialNumber
    node: str | None = None
    error: str = ""
    worker_lost: bool = False


class NoiseEstimated(_Event):
    """The label noise as the network of a trial sees it at its last epoch; written before the trial's end."""

    event: Literal["noise_estimated"] = "noise_estimated"
    trial: TrialNumber
    epoch: Count
    noise: NoiseEstimate


class GainExpected(_Event):
    """What further trials promise, as a fraction of the images (`results.expected_gain`)."""

    event: Literal["expected_gain"] = "expected_gain"
    after: Count
    """So many trials had ended."""
    trials: Count
    """For so many more."""
    mean: float
    upper: float
    """A larger gain has a probability of one in eight."""


class Eliminated(_Event):
    """Candidates of a confirmation that are not trained any further: name → reason."""

    event: Literal["ruled_out"] = "ruled_out"
    rounds: int | None = None
    """After how many rounds this was tested; None where a run failed."""
    candidates: dict[str, str]


Event = (
    RunStarted
    | RunEnded
    | OutputLost
    | NodesChanged
    | Proposed
    | Report
    | Checkpoint
    | Stopped
    | Finished
    | Failed
    | NoiseEstimated
    | GainExpected
    | Eliminated
)
Handler = Callable[[Event], object]

SEARCH_FILE = "search.yaml"  # of an experiment
_MODELS: dict[str, type[BaseModel]] = {model.model_fields["event"].default: model for model in get_args(Event)}
_PARSER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(entry: Mapping[str, Any]) -> Event:
    """The event that a line of the journal holds. Raises pydantic's ValidationError if it is none."""
    return _PARSER.validate_python(entry)


def parse_line(line: bytes) -> Event:
    """Returns the event in a line of a journal. Raises ValueError with the reason if it is none."""
    try:
        return _PARSER.validate_json(line)
    except ValidationError as error:
        raise ValueError(_reason(error)) from error


def read_events(path: Location) -> Iterator[Event]:
    """Reads all complete events in order, none where there is no journal; also while a driver is writing.

    Raises:
        RequestError: naming the line, if one is not an event.
    """
    for number, line in enumerate(journal_lines(path), start=1):
        try:
            yield parse_line(line)
        except ValueError as error:
            wrong = f"{path}, line {number} is not a journal event: {error}"
            raise RequestError(f"{wrong}; {repair_advice(path)}") from error


def repair_advice(path: Location) -> str:
    """Returns what to do about a journal with a damaged line, to end a message."""
    folder = path.parent  # of the experiment, or of its confirmation
    if has_file(folder.parent / SEARCH_FILE):
        folder = folder.parent
    return f"`{with_storage(f'repair {folder.name}', folder.parent)}` keeps a copy and cuts it out"


def replay(path: Location, *handlers: Handler) -> None:
    """Hands all events of a journal to each handler.

    Raises:
        RequestError: naming the line, if one is not an event or names a trial that was never proposed.
    """
    for number, event in enumerate(read_events(path), start=1):
        try:
            for handle in handlers:
                handle(event)
        except (KeyError, ValueError) as error:
            reason = f"trial {error} was never proposed" if isinstance(error, KeyError) else str(error)
            raise RequestError(f"{path}, line {number} makes no sense: {reason}; {repair_advice(path)}") from error


class EventJournal(Journal):
    """A journal that hands each event to its subscribers once it is written."""

    def __init__(self, path: Location) -> None:
        """Opens the journal as `Journal` does."""
        super().__init__(path)
        self._handlers: list[Handler] = []

    def subscribe(self, *handlers: Handler) -> None:
        """Adds event handlers, which get the events that are recorded from now on."""
        self._handlers += handlers

    def record(self, event: Event) -> None:
        """Writes one event, then hands it to the subscribers as a reader of the journal will see it."""
        fields = event.model_dump(exclude_unset=True, exclude={"time", "event"}, by_alias=True)
        written = parse_event(self.append(event.event, **fields))
        for handle in self._handlers:
            handle(written)


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    kind, *where = first["loc"] or ("",)
    if kind:
        return describe(first | {"loc": tuple(where)}, _MODELS[str(kind)])
    if first["type"] == "union_tag_invalid":
        return unknown("event", first["ctx"]["tag"], _MODELS)
    return "the line was damaged" if first["type"] == "json_invalid" else "it names no event"
