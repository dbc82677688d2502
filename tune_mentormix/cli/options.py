"""The options that several commands take: what each is called, says and is where it is not given."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tune_mentormix.config.settings import SearchSettings, read_settings
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, as_location

STORAGE = Path("results")
NOTHING_SET: list[str] = []
SET_HELP = "Any other setting of the search or of all its trials, such as batch_size=64."


def command() -> str:
    """How the user calls this program, so that the commands it prints can be pasted."""
    if Path(sys.argv[0]).name != "run_search.py":
        return "tune-mentormix"
    python = os.path.relpath(sys.executable)
    return f"{sys.executable if python.startswith('..') else python} {sys.argv[0]}"


def option(text: str, default: str | bool = False) -> Any:
    """An option that is None where it is not given: what it then is, the settings say."""
    return typer.Option(help=text, show_default=default)


def parse_storage(value: str | Path) -> Location:
    """Of --storage. Raises RequestError if it is neither a folder nor the URI of an object store."""
    try:
        return as_location(value)
    except ValueError as error:
        raise RequestError(f"storage: {error} (--storage)") from error


STORAGE_HELP = "Where experiments live: a folder, or a URI such as s3://bucket/folder."
Name = Annotated[str, typer.Argument(help="The experiment's name.", show_default=False)]
Storage = Annotated[  # a Location; Typer knows no unions
    Any, typer.Option(help=STORAGE_HELP, parser=parse_storage, metavar="FOLDER|URI")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Let Ray talk.")]
TIME_BUDGET_HELP = "End this run after 90s, 30m, 2h, …"
# Of a search that is there, what is not named is as it was begun with; the number of trials as last asked for.
NumSamples = Annotated[int | None, option("Trials in all, the controls among them.", "20, or as before")]
TimeBudget = Annotated[str | None, option(TIME_BUDGET_HELP, "none, or as begun with")]
EpochBudget = Annotated[
    int | None, option("End after so many epochs of all trials together.", "none, or as begun with")
]
Patience = Annotated[
    int | None, option("End after so many trials without a better result.", "none, or as begun with")
]
TrialTimeout = Annotated[
    str | None, option("A trial without a report for so long hangs, and fails.", "none, or as begun with")
]
Address = Annotated[str | None, option("A Ray cluster to join.", "this machine, or as begun with")]
CpusPerTrial = Annotated[float | None, option("CPU cores of one trial.", "1, or as begun with")]
GpusPerTrial = Annotated[
    float | None, option("GPUs of one trial, or a fraction of one.", "1 if there are any, or as begun with")
]
MaxConcurrent = Annotated[int | None, option("Trials at once.", "as many as fit, or as begun with")]
Config = Annotated[Path | None, option("A YAML file of settings; options win over it.")]
SearchName = Annotated[str | None, option("Of the experiment.", "the dataset and the time")]
Space = Annotated[str | None, option("A search space, by name or as a YAML file.", "default")]
DatasetOption = Annotated[str | None, option("What to train on; docs/data.md.", "digits")]
DataDirOption = Annotated[str | None, option("Where the dataset lies.")]
Noise = Annotated[float | None, option("Share of labels to make wrong.", "0.4 for digits, else 0")]
Network = Annotated[str | None, option("Of all trials; docs/method.md.", "small_cnn")]
Preset = Annotated[str | None, option("Rules of MentorMix: reference or paper; docs/method.md.", "ours")]
Precision = Annotated[str | None, option("Of training: fp32, bf16 or auto.", "auto")]
StartFrom = Annotated[str | None, option("An export or an experiment whose best to try first.", "none")]
Epochs = Annotated[int | None, option("Epochs of a full trial.", "60")]
Sampler = Annotated[str | None, option("Who proposes: tpe, gp, cmaes, random, grid or qmc.", "tpe")]
Scheduler = Annotated[str | None, option("Who stops trials early: asha or none.", "asha")]
SeedOption = Annotated[int | None, option("Of proposals and trials.", "0")]
Tracker = Annotated[list[str] | None, option("Besides TensorBoard: wandb, mlflow.", "none")]
StorageText = Annotated[str | None, option(STORAGE_HELP, "results")]
Assignments = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)]
NOT_SETTINGS = ("config", "precision", "assignments", "verbose")  # of the options of `search`


def asked_settings(options: dict[str, Any]) -> SearchSettings:
    """What the options of `search`, by name, and its settings file ask for; raises as `read_settings` does."""
    asked = {key: value for key, value in options.items() if key not in NOT_SETTINGS}
    precisely = [] if options["precision"] is None else [f"precision={options['precision']}"]
    return read_settings(options["config"], asked, [*precisely, *options["assignments"]])
