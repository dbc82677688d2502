"""The commands that show what a setting may be: spaces, networks, datasets, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args

from rich.text import Text

from search_spaces import shipped_spaces
from trainables.errors import one_line
from trainables.settings import TIMM_PREFIX, TORCHVISION_PREFIX, OwnNetwork, TrialSettings
from tune_mentormix.cli.console import print_facts, print_table, print_written, stdout
from tune_mentormix.cli.options import Commands, path_option
from tune_mentormix.config.settings_file import settings_schema
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.yaml_files import read_yaml

app = Commands("Search")


@app.with_examples("spaces", "search --space wide --trials 100")
def spaces() -> None:
    """Show the built-in search spaces."""
    for name, path in shipped_spaces().items():
        comments = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# ")]
        stdout.print(Text(name, style="bold"), *comments)
        print_table(
            (), ((f"  {key}", json.dumps(value).replace('"', "")) for key, value in read_yaml(path).values.items())
        )
    stdout.print("Another space: --space FILE.yaml with such lines; docs/search.md describes them.")


@app.with_examples("networks", "search --network torchvision/resnet50")
def networks() -> None:
    """Show the networks that can be trained, with their numbers of parameters for 10 classes."""
    from torchvision import models  # imports torch

    from trainables.models import NETWORKS, build_network

    rows = []
    for name in get_args(OwnNetwork):
        network = build_network(TrialSettings(network=name), num_classes=10, in_channels=3)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        rows.append((name, f"{parameters:,}", (NETWORKS[name].__doc__ or "").split("\n")[0]))
    print_table(("network", "parameters", ""), rows)
    stdout.print(f"\n{TORCHVISION_PREFIX}NAME, where NAME is one of:")
    stdout.print(", ".join(models.list_models(module=models)), soft_wrap=False)
    stdout.print(f"\n{TIMM_PREFIX}NAME, where NAME is one of the networks of timm, which is an extra: EXTRAS=timm.")
    stdout.print("They are listed by python -c 'import timm; print(*timm.list_models())'.")


@app.with_examples("datasets", "search --dataset folder --data-dir ~/data/birds")
def datasets() -> None:
    """Show the datasets that can be searched on."""
    from trainables.data import DATASETS  # imports NumPy

    print_facts({name: (read.__doc__ or "").split("\n")[0].replace("`", "") for name, read in DATASETS.items()})
    stdout.print("docs/data.md describes them, and label files.")


@app.with_examples("schema --out search.schema.json")
def schema(out: Annotated[Path | None, path_option("JSON file to write. Not set: print it.")] = None) -> None:
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
