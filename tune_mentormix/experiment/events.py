"""The events of an experiment's journal, one class each, and the journal that hands them to its subscribers.

The fields stand in the order in which they are written. A field with a default may be missing in older journals;
fields that this version does not know are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.schemas import NoiseEstimate
from tune_mentormix.storage.journal import Journal
from tune_mentormix.storage.journal_backends import journal_lines
from tune_mentormix.storage.paths import Location


class _Event(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, validate_by_name=True)

    time: float = 0.0
    """Unix seconds; set when the event is written."""


class RunStarted(_Event):
    """A driver starts to run trials: of a new search, a resumed one, or a confirmation."""

    event: Literal["run_started"] = "run_started"
    run: int | None = None
    num_samples: int | None = None
    rungs: list[int] = []
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None


class RunEnded(_Event):
    """The driver ended the run itself; a killed one writes no such event."""

    event: Literal["run_ended"] = "run_ended"
    run: int | None = None
    reason: str = "finished"


class Proposed(_Event):
    """A trial, or a new attempt of one, is about to start."""

    event: Literal["proposed"] = "proposed"
    trial: int
    run: int | None = None
    attempt: int | None = None
    control: str | None = None
    enqueued: bool | None = Field(default=None, validation_alias="given", serialization_alias="given")
    """Whether it is a control or a warm start, not the sampler's choice; None in journals that do not tell."""
    config: dict[str, Any]

    @property
    def is_enqueued(self) -> bool:
        """Whether the sampler did not choose the configuration."""
        return self.control is not None if self.enqueued is None else self.enqueued


class Report(_Event):
    """The metrics of one epoch; all but the validation accuracy are in `metrics`."""

    event: Literal["report"] = "report"
    trial: int
    attempt: int | None = None
    node: str | None = None
    epoch: int
    val_accuracy: float | None
    """None where it was NaN."""

    @property
    def metrics(self) -> dict[str, Any]:
        """All metrics by name, `val_accuracy` first."""
        return {"val_accuracy": self.val_accuracy, **(self.model_extra or {})}


class Checkpoint(_Event):
    """A checkpoint was stored; `path` is relative to the experiment's folder."""

    event: Literal["checkpoint"] = "checkpoint"
    trial: int
    attempt: int | None = None
    epoch: int
    path: str


class Stopped(_Event):
    """Early stopping ended the trial."""

    event: Literal["stopped"] = "stopped"
    trial: int
    epoch: int | None = None


class Finished(_Event):
    """The trial trained all its epochs."""

    event: Literal["finished"] = "finished"
    trial: int
    epoch: int | None = None


class Failed(_Event):
    """The trial failed by its own fault, or its workers died too often."""

    event: Literal["failed"] = "failed"
    trial: int
    node: str | None = None
    error: str = ""
    worker_lost: bool = False


class NoiseEstimated(_Event):
    """The label noise as the network of a trial sees it at its last epoch; written before the trial's end."""

    event: Literal["noise_estimated"] = "noise_estimated"
    trial: int
    epoch: int
    noise: NoiseEstimate


class Eliminated(_Event):
    """Candidates of a confirmation that are not trained any further: name → reason."""

    event: Literal["ruled_out"] = "ruled_out"
    rounds: int | None = None
    """After how many rounds this was tested; None where a run failed."""
    candidates: dict[str, str]


Event = (
    RunStarted | RunEnded | Proposed | Report | Checkpoint | Stopped | Finished | Failed | NoiseEstimated | Eliminated
)
Handler = Callable[[Event], object]

_PARSER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(entry: Mapping[str, Any]) -> Event:
    """The event that a line of the journal holds. Raises pydantic's ValidationError if it is none."""
    return _PARSER.validate_python(entry)


def read_events(path: Location) -> Iterator[Event]:
    """Reads all complete events in order, none where there is no journal; also while a driver is writing.

    Raises:
        RequestError: naming the line, if one is not an event.
    """
    for number, line in enumerate(journal_lines(path), start=1):
        try:
            yield _PARSER.validate_json(line)
        except ValidationError as error:
            raise RequestError(f"{path}, line {number} is not a journal event{_reason(error)}") from error


def replay(path: Location, *handlers: Handler) -> None:
    """Hands all events of a journal to each handler.

    Raises:
        RequestError: naming the line, if one is not an event or names a trial that was never proposed.
    """
    for number, event in enumerate(read_events(path), start=1):
        try:
            for handle in handlers:
                handle(event)
        except KeyError as error:
            reason = f"trial {error} was never proposed"
            raise RequestError(f"{path}, line {number} makes no sense: {reason}; the file was damaged") from error


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
    """What is wrong with a line, after a colon."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return ": the file was damaged"
    where = ".".join(str(part) for part in first["loc"][1:])
    return f": {where}: {first['msg']}" if where else f": {first['msg']}"
