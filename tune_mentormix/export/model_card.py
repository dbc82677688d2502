"""The texts of an exported folder: a model card that claims no more than was measured, and how to reproduce it."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.formatting import format_accuracy, format_value
from tune_mentormix.results.summary import CONTROL_TITLES, summarize

_TEMPLATES = Environment(  # Markdown and shell: nothing is escaped as in HTML
    loader=PackageLoader("tune_mentormix.export"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"accuracy": format_accuracy, "value": format_value}


def model_card(experiment: Experiment, trial: Trial, provenance: dict[str, Any]) -> str:
    """The card of a trial in Markdown; `provenance` is the folder's own record."""
    others = [control for control in experiment.controls().values() if control.number != trial.number]
    return _TEMPLATES.get_template("model_card.md").render(
        experiment=experiment,
        trial=trial,
        provenance=provenance,
        dataset=provenance["dataset"],
        model=provenance["model"],
        confirmation=provenance["confirmation"],
        hyperparameters=[name for name in experiment.space if name in trial.config],
        rows=[("this trial", trial), *((CONTROL_TITLES[str(control.control)], control) for control in others)],
        summary=summarize(experiment),
    )


def reproduce_script(provenance: dict[str, Any]) -> str:
    """A shell script that measures the exported weights, if there are any, and trains again."""
    return _TEMPLATES.get_template("reproduce.sh").render(provenance)
