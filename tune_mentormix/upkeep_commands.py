"""The command that keeps a storage small."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tune_mentormix import console
from tune_mentormix.cli_options import STORAGE, AsJson, Storage
from tune_mentormix.errors import RequestError
from tune_mentormix.formatting import NOTHING, format_bytes
from tune_mentormix.storage.paths import Location

if TYPE_CHECKING:
    from tune_mentormix.results.cleanup import Weight

app = typer.Typer()


@app.command()
def gc(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="All, if none is named.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Remove the named experiments with all they hold.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    storage: Storage = STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show what experiments weigh, and remove checkpoints that nothing needs any more."""
    if whole and not names:
        raise RequestError("--whole takes the names of the experiments to remove")
    from tune_mentormix.results.cleanup import (
        remove_old_checkpoints,  # imports SciPy
        remove_whole,
        weigh_all,
    )

    weights = weigh_all(storage, names or [], whole)
    if not as_json:
        _print(weights, storage)
    removed = [weight for weight in weights if weight.removable] if yes or _confirmed(weights, as_json) else []
    for weight in removed:
        remove_whole(storage, weight.name) if whole else remove_old_checkpoints(storage, weight.name)
    if as_json:
        console.print_json([weight.as_json() | {"removed": weight in removed} for weight in weights])
    elif removed:
        console.print_note(f"removed {format_bytes(sum(weight.removable for weight in removed))}")


def _confirmed(weights: list[Weight], as_json: bool) -> bool:
    total = sum(weight.removable for weight in weights)
    if not total or as_json:
        return False
    if not sys.stdin.isatty():
        console.print_note("nothing was removed: say --yes")
        return False
    return typer.confirm(f"Remove {format_bytes(total)}?", err=True)


def _print(weights: list[Weight], storage: Location) -> None:
    if not weights:
        console.stdout.print(f"no searches in {storage}", markup=False)
        return
    table = Table("name", "state", "checkpoints", "weighs", "can go", box=None, pad_edge=False)
    for weight in weights:
        removable = format_bytes(weight.removable) if weight.removable else NOTHING
        table.add_row(weight.name, weight.state, str(weight.checkpoints), format_bytes(weight.bytes), removable)
    console.stdout.print(table)
