"""The noise rate and the transition matrix of the labels: known, where the true labels are, and estimated."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from pydantic import BaseModel, Field, ValidationError, model_validator

from trainables.errors import describe_value, one_line
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.provenance import LABEL_NOISE_FILE
from tune_mentormix.report.figures import Figure, draw_figure
from tune_mentormix.results.clean_terms import noise_reference
from tune_mentormix.results.label_quality import Z_95, standard_error

logger = logging.getLogger(__name__)

_MAX_CLASSES_NAMED = 20  # the names of more would overlap
_MAX_CELLS_LABELLED = 12  # classes; of more, numbers would not fit their cells
_MAX_UPRIGHT = 3  # letters of a class name; longer ones are slanted
_COLOURS = LinearSegmentedColormap.from_list("", ["white", "#dd8a62"])


@dataclass(frozen=True)
class LabelNoise:
    """The noise rate of the training labels, and how each class was labelled."""

    rate: float
    classes: int
    figure: Figure | None


class LabelNoiseRecord(BaseModel):
    """The content of `label_noise.json`."""

    class_names: Annotated[list[str], Field(min_length=1)]
    noise_rate: Annotated[float, Field(ge=0, le=1)] | None
    transition_matrix: list[list[Annotated[float, Field(ge=0, le=1)]]] | None

    @model_validator(mode="after")
    def _one_row_and_column_a_class(self) -> LabelNoiseRecord:
        rows, classes = self.transition_matrix or [], len(self.class_names)
        if rows and {len(rows), *map(len, rows)} != {classes}:
            raise ValueError(f"transition_matrix must have a row and a column for each of the {classes} classes")
        return self


def read_label_noise(experiment: Experiment) -> LabelNoiseRecord | None:
    """Reads `label_noise.json`; None if it is missing, or with a warning if it is damaged."""
    path = experiment.path / LABEL_NOISE_FILE
    try:
        return LabelNoiseRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        reason = describe_value(error.errors()[0])
    except (OSError, ValueError) as error:
        reason = one_line(error)
    logger.warning("the report leaves out the labels' noise: cannot read %s: %s", path, reason)
    return None


def label_noise(record: LabelNoiseRecord | None) -> LabelNoise | None:
    """Returns the noise of the training labels; None if the true labels are unknown."""
    if record is None or record.noise_rate is None:
        return None
    names, matrix = record.class_names, record.transition_matrix
    return LabelNoise(record.noise_rate, len(names), _transition_matrix(names, matrix) if matrix else None)


@dataclass(frozen=True)
class EstimatedNoise:
    """The noise of the validation labels, as the most accurate network sees it."""

    rate: float
    error: float  # half of the 95 % interval
    images: int
    trial: int
    is_bound: bool  # whether the network is too weak for more than an upper bound
    figure: Figure | None


def estimated_noise(experiment: Experiment, record: LabelNoiseRecord | None) -> EstimatedNoise | None:
    """Returns the estimate of the noise; None where no trial that ran to the end has one."""
    reference = noise_reference(list(experiment.trials.values()))
    if reference is None:
        return None
    noise = reference.noise
    names = record.class_names if record else []
    fits = noise.transition is not None and len(names) == len(noise.transition)
    figure = _transition_matrix(names, noise.transition) if noise.transition and fits else None
    error = Z_95 * standard_error(noise.rate, noise.rate_images)
    is_bound = not reference.is_told_from_errors(experiment.provenance.dataset.classes or 2)
    return EstimatedNoise(noise.rate, error, noise.rate_images, reference.trial.number, is_bound, figure)


def noise_rate_bound(experiment: Experiment) -> float | None:
    """Estimates an upper bound of the noise rate without true labels; None if validation labels are not noisy.

    A classifier that is always right disagrees with wrong labels only. So the best trial's error on noisy validation
    labels is at least about the noise rate, unless the wrong labels follow a rule that the classifier learned.
    """
    best = experiment.best()
    if best is None or best.val_accuracy is None or experiment.labels_kind != "noisy":
        return None
    return 1 - best.val_accuracy


def _transition_matrix(names: list[str], matrix: list[list[float]]) -> Figure:
    classes = len(names)

    def plot(axes: Axes) -> None:
        axes.imshow(matrix, cmap=_COLOURS, vmin=0, vmax=max(map(max, matrix)) or 1)
        if classes <= _MAX_CELLS_LABELLED:
            for (row, column), fraction in np.ndenumerate(matrix):
                axes.text(column, row, f"{100 * fraction:.0f}", ha="center", va="center", fontsize=7.5)
        axes.set(xlabel="label given", ylabel="true class")
        shown = names if classes <= _MAX_CLASSES_NAMED else []
        rotation = 60 if max(map(len, names)) > _MAX_UPRIGHT else 0
        axes.set_xticks(range(len(shown)), shown, rotation=rotation, ha="right" if rotation else "center")
        axes.set_yticks(range(len(shown)), shown)
        axes.tick_params(length=0)

    alt = f"Transition matrix of {classes} classes: percent of each true class by the label given."
    return draw_figure(plot, alt, (4.4, 4.2))
