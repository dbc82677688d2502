"""What is known of the wrong labels, from `label_noise.json` of the experiment's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.experiment.provenance import LABEL_NOISE_FILE
from tune_mentormix.report.pictures import ACCENT, ACCENT_PIXELS, FAINT, MUTED, Picture, picture

_MOST_NAMED = 20  # classes; of more, names would overlap
_LONGEST_UPRIGHT = 3  # letters of a class name; longer ones are slanted
_MOST_CELLS_WRITTEN = 12  # classes; of more, shares would not fit their cells


@dataclass(frozen=True)
class LabelNoise:
    """Known wrong labels of the training images."""

    rate: float
    classes: int
    picture: Picture | None


def label_noise(experiment: Experiment) -> LabelNoise | None:
    """Reads the file; None where it is missing or the true labels are unknown."""
    try:
        facts = json.loads((experiment.path / LABEL_NOISE_FILE).read_text(encoding="utf-8"))
        rate, names, matrix = facts["noise_rate"], facts["class_names"], facts["transition_matrix"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if rate is None:
        return None
    return LabelNoise(rate, len(names), _heat_map(names, matrix) if matrix else None)


def estimated_rate(experiment: Experiment) -> float | None:
    """An estimate from above of the share of wrong labels, for where nobody knows it.

    A classifier that is always right agrees with the labels that are right, and hardly with the others. So what the
    best trial disagrees with on noisy validation labels is at least about the share of wrong ones; mistakes that
    follow a rule, which a classifier can learn, escape it.
    """
    best = experiment.best()
    if best is None or best.val_accuracy is None or experiment.labels_kind != "noisy":
        return None
    return 1 - best.val_accuracy


def _heat_map(names: list[str], matrix: list[list[float]]) -> Picture:
    classes = len(names)

    def draw(axes: Axes) -> None:
        pixels = classes > _MOST_NAMED
        colour = ACCENT_PIXELS if pixels else ACCENT
        strongest = max(max(row) for row in matrix) or 1.0
        for true, row in enumerate(matrix):
            for labelled, share in enumerate(row):
                if share > 0:
                    square = Rectangle((labelled, true), 1, 1, facecolor=colour, alpha=0.85 * share / strongest)
                    square.set_rasterized(pixels)
                    axes.add_patch(square)
                if classes <= _MOST_CELLS_WRITTEN:
                    text = f"{100 * share:.0f}"
                    axes.text(labelled + 0.5, true + 0.5, text, ha="center", va="center", fontsize=7.5)
        axes.set(xlim=(0, classes), ylim=(classes, 0), aspect="equal", xlabel="label given", ylabel="true class")
        places, shown = ([n + 0.5 for n in range(classes)], names) if classes <= _MOST_NAMED else ([], [])
        axes.set_xticks(places, shown, color=MUTED)
        for name in axes.get_xticklabels() if max(map(len, names)) > _LONGEST_UPRIGHT else ():
            name.set(rotation=60, horizontalalignment="right", rotation_mode="anchor")
        axes.set_yticks(places, shown, color=MUTED)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set(visible=True, color=FAINT)

    alt = f"Transition matrix of {classes} classes: percent of each true class by the label given."
    return picture(draw, alt, wide=(5.0, 4.6), narrow=(3.7, 3.6))
