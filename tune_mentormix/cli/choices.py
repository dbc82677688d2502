"""The commands that show what a setting may be: spaces, networks, datasets, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.table import Table
from rich.text import Text

from search_spaces import shipped_spaces
from trainables.errors import one_line
from trainables.settings import TORCHVISION_PREFIX, OwnNetwork, TrialSettings
from tune_mentormix.cli.console import print_written, stdout
from tune_mentormix.cli.options import examples, option
from tune_mentormix.config.settings import settings_schema
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.yaml_files import read_yaml

PANEL = "Search"
DATASETS = {  # name: what it is, what data_dir must be
    "digits": ("1,797 handwritten digits of 8×8 pixels, 10 classes; part of scikit-learn", "not needed"),
    "cifar10": ("60,000 images of 32×32 pixels, 10 classes", "folder of cifar-10-batches-py; not set: downloaded"),
    "cifar100": ("60,000 images of 32×32 pixels, 100 classes", "folder of cifar-100-python; not set: downloaded"),
    "folder": ("your images", "a folder with one folder a class, or train/ and test/ that have these"),
    "arrays": ("your images", "an .npz file with images and labels"),
}
app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog=examples("spaces", "search --space wide --trials 100"))
def spaces() -> None:
    """Show the built-in search spaces."""
    for name, path in shipped_spaces().items():
        comments = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# ")]
        stdout.print(Text(name, style="bold"), Text(" ".join(comments)))
        table = Table(box=None, pad_edge=False, show_header=False)
        for hyperparameter, values in read_yaml(path).values.items():
            table.add_row(Text(f"  {hyperparameter}"), Text(json.dumps(values).replace('"', "")))
        stdout.print(table)
    stdout.print("Another space: --space FILE.yaml with such lines; docs/search.md describes them.")


@app.command(rich_help_panel=PANEL, epilog=examples("networks", "search --network torchvision/resnet50"))
def networks() -> None:
    """Show the networks that can be trained, with their numbers of parameters for 10 classes."""
    from torchvision import models  # imports torch

    from trainables.models import NETWORKS, build_network

    table = Table("network", "parameters", "", box=None, pad_edge=False)
    for name in get_args(OwnNetwork):
        network = build_network(TrialSettings(network=name), num_classes=10, in_channels=3)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        table.add_row(name, f"{parameters:,}", Text((NETWORKS[name].__doc__ or "").split("\n")[0]))
    stdout.print(table)
    stdout.print(f"\n{TORCHVISION_PREFIX}NAME, where NAME is one of:")
    stdout.print(Text(", ".join(models.list_models(module=models))), soft_wrap=False)


@app.command(rich_help_panel=PANEL, epilog=examples("datasets", "search --dataset folder --data-dir ~/data/birds"))
def datasets() -> None:
    """Show the datasets that can be searched on, and what each needs."""
    table = Table("dataset", "images", "--data-dir", box=None, pad_edge=False)
    for name, (images, data_dir) in DATASETS.items():
        table.add_row(name, Text(images), Text(data_dir))
    stdout.print(table)
    stdout.print("docs/data.md describes them, and label files.")


@app.command(rich_help_panel=PANEL, epilog=examples("schema --out search.schema.json"))
def schema(
    out: Annotated[Path | None, option("JSON file to write. Not set: print it.")] = None,
) -> None:
    """Write the JSON schema of the settings file, with which editors complete and check it.

    A first line `# yaml-language-server: $schema=search.schema.json` in the settings file names it.
    """
    text = json.dumps(settings_schema(), indent=2, ensure_ascii=False)
    if out is None:
        print(text)
        return
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot write {out}: {one_line(error)} (--out)") from error
    print_written(out)
