"""The command that serves searches to a team."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tune_mentormix.cli import console
from tune_mentormix.cli.options import STORAGE, AsJson, Storage, StorageText
from tune_mentormix.errors import RequestError, how_to_install
from tune_mentormix.formatting import NOTHING, format_bytes
from tune_mentormix.storage.paths import Location

if TYPE_CHECKING:
    from tune_mentormix.results.cleanup import DiskUsage

Configuration = Annotated[
    Path | None, typer.Option(help="A YAML file of what the server allows; docs/service.md.", show_default=False)
]
Host = Annotated[str, typer.Option(help="Where to listen; other machines can come to any but loopback.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Where to listen.")]
TokensFile = Annotated[
    Path | None,
    typer.Option("--tokens", help="A file of tokens, with mode 600.", show_default="~/.config/tune-mentormix/tokens"),
]
JobsAddress = Annotated[
    str | None, typer.Option("--address", help="Of the cluster's jobs, http://HEAD:8265.", show_default="none")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Use a cluster that is open to everyone.")]
Certificate = Annotated[Path | None, typer.Option(help="Of this server, for HTTPS.", show_default=False)]
Key = Annotated[Path | None, typer.Option(help="Of the certificate.", show_default=False)]

app = typer.Typer()


@app.command()
def serve(
    config: Configuration = None,
    storage: StorageText = None,
    address: JobsAddress = None,
    host: Host = "127.0.0.1",
    port: Port = 8400,
    tokens: TokensFile = None,
    certificate: Certificate = None,
    key: Key = None,
    insecure: Insecure = False,
) -> None:
    """Serve searches to a team: pages and an API to submit, watch, stop and collect them."""
    try:
        from tune_mentormix.service.configuration import read_configuration
        from tune_mentormix.service.server import Listening
        from tune_mentormix.service.server import serve as serve_until_stopped
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tune_mentormix"):
            raise
        raise RequestError(f"serve needs {error.name}: {how_to_install('serve')}") from error
    options = {"storage": storage, "address": address, "insecure": insecure or None}
    serve_until_stopped(read_configuration(config, options), Listening(host, port, certificate, key), tokens)


@app.command()
def gc(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="All, if none is named.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Remove the named experiments with all they hold.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    storage: Storage = STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show disk usage, and remove checkpoints that are no longer needed."""
    if whole and not names:
        raise RequestError("--whole takes the names of the experiments to remove")
    from tune_mentormix.results.cleanup import (
        disk_usage,
        remove_old_checkpoints,  # imports SciPy
        remove_whole,
    )

    usages = disk_usage(storage, names or [], whole)
    if not as_json:
        _print(usages, storage)
    removed = [usage for usage in usages if usage.removable] if yes or _confirmed(usages, as_json) else []
    for usage in removed:
        remove_whole(storage, usage.name) if whole else remove_old_checkpoints(storage, usage.name)
    if as_json:
        console.print_json([usage.as_json() | {"removed": usage in removed} for usage in usages])
    elif removed:
        console.print_note(f"removed {format_bytes(sum(usage.removable for usage in removed))}")


def _confirmed(usages: list[DiskUsage], as_json: bool) -> bool:
    total = sum(usage.removable for usage in usages)
    if not total or as_json:
        return False
    if not sys.stdin.isatty():
        console.print_note("nothing was removed: say --yes")
        return False
    return typer.confirm(f"Remove {format_bytes(total)}?", err=True)


def _print(usages: list[DiskUsage], storage: Location) -> None:
    if not usages:
        console.stdout.print(f"no searches in {storage}", markup=False)
        return
    table = Table("name", "state", "checkpoints", "size", "removable", box=None, pad_edge=False)
    for usage in usages:
        removable = format_bytes(usage.removable) if usage.removable else NOTHING
        table.add_row(usage.name, usage.state, str(usage.checkpoints), format_bytes(usage.bytes), removable)
    console.stdout.print(table)
