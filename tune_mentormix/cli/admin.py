"""The commands that look after searches: serve, delete, gc, repair."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tune_mentormix.cli import console
from tune_mentormix.cli.options import (
    AsJson,
    Commands,
    Insecure,
    Name,
    Storage,
    argument,
    examples,
    option,
    path_option,
)
from tune_mentormix.config.settings import ENVIRONMENT, STORAGE
from tune_mentormix.errors import RequestError, how_to_install
from tune_mentormix.formatting import NOTHING, format_bytes
from tune_mentormix.storage.paths import Location

Configuration = Annotated[Path | None, path_option("YAML file of what the server allows; docs/service.md.")]
Host = Annotated[str, typer.Option(help="Address to bind. Other machines reach any address but a loopback one.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to bind.")]
TokensFile = Annotated[
    Path | None, path_option("File of access tokens, with mode 600.", "~/.config/tune-mentormix/tokens")
]
Dashboard = Annotated[
    str | None,
    option(
        "Address of the Ray cluster's dashboard, such as http://HEAD:8265. Not set: only show searches.",
        envvar=ENVIRONMENT["dashboard"],
    ),
]
StorageText = Annotated[  # the server's settings file may give it
    str | None,
    typer.Option(
        help="Storage folder or URI. Not set: as in the settings file, or results.", envvar=ENVIRONMENT["storage"]
    ),
]
Certificate = Annotated[Path | None, path_option("TLS certificate of this server, for HTTPS.")]
Key = Annotated[Path | None, path_option("Private key of the certificate.")]
Yes = Annotated[bool, typer.Option("--yes", help="Delete without asking.")]

MAX_LINES_SHOWN = 10
app = Commands("Search")


@app.command(rich_help_panel="Team", epilog=examples("serve --storage /shared/results --dashboard http://head:8265"))
def serve(
    config: Configuration = None,
    storage: StorageText = None,
    dashboard: Dashboard = None,
    host: Host = "127.0.0.1",
    port: Port = 8400,
    tokens: TokensFile = None,
    certificate: Certificate = None,
    key: Key = None,
    insecure: Insecure = False,
) -> None:
    """Serve searches to a team: web pages and an API to submit, watch, stop and collect them."""
    try:
        from tune_mentormix.service.server import BindAddress
        from tune_mentormix.service.server import serve as serve_until_stopped
        from tune_mentormix.service.settings import read_server_settings
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tune_mentormix"):
            raise
        raise RequestError(f"serve needs {error.name}: {how_to_install('serve')}") from error
    options = {"storage": storage, "address": dashboard, "insecure": insecure or None}
    serve_until_stopped(read_server_settings(config, options), BindAddress(host, port, certificate, key), tokens)


@app.with_examples("delete birds", "delete birds --yes")
def delete(
    names: Annotated[list[str], argument("NAME", "Experiments to delete.")],
    yes: Yes = False,
    storage: Storage = STORAGE,
) -> None:
    """Delete experiments with all their files: settings, journal, checkpoints."""
    _clean(storage, names, whole=True, yes=yes, as_json=False)


@app.with_examples("gc", "gc birds --yes")
def gc(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Experiments. Not set: all.")] = None,
    whole: Annotated[bool, typer.Option("--whole", hidden=True)] = False,  # now: delete
    yes: Yes = False,
    storage: Storage = STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show disk usage, and delete checkpoints that are no longer needed."""
    if whole and not names:
        raise RequestError("--whole takes the names of the experiments to remove")
    _clean(storage, names or [], whole, yes, as_json)


@app.with_examples("repair birds")
def repair(name: Name, storage: Storage = STORAGE) -> None:
    """Repair a damaged journal: cut out the lines that cannot be read, and keep a copy of all."""
    from tune_mentormix.results.repair import repair_experiment  # imports SciPy

    repairs = repair_experiment(storage, name)
    for repaired in repairs:
        console.stdout.print(f"{repaired.journal}: cut out: {len(repaired.lost)}, kept: {repaired.kept} lines")
        for lost in repaired.lost[:MAX_LINES_SHOWN]:
            console.stdout.print(f"  {lost}")
        if len(repaired.lost) > MAX_LINES_SHOWN:
            console.stdout.print(f"  and {len(repaired.lost) - MAX_LINES_SHOWN} more")
        console.stdout.print(f"the journal as it was: {repaired.copy}")
    if not repairs:
        console.stdout.print(f"nothing is damaged in the journal of {name}")


def _clean(storage: Location, names: list[str], whole: bool, yes: bool, as_json: bool) -> None:
    from tune_mentormix.results.cleanup import disk_usage, remove_old_checkpoints, remove_whole  # imports SciPy

    usages = disk_usage(storage, names, whole)
    if not usages and not as_json:
        console.stdout.print(f"no searches in {storage}")
    elif not as_json:
        rows = []
        for usage in usages:
            removable = format_bytes(usage.removable) if usage.removable else NOTHING
            figures = (str(usage.checkpoints), format_bytes(usage.bytes), removable)
            rows.append((usage.name, usage.state, *([NOTHING] * 3 if usage.error else figures)))
        console.print_table(("name", "state", "checkpoints", "size", "removable"), rows)
        console.print_unreadable({usage.name: usage.error for usage in usages if usage.error})
    total = sum(usage.removable for usage in usages)
    if not yes and total and not as_json:
        if sys.stdin.isatty():
            yes = typer.confirm(f"Delete {format_bytes(total)}?", err=True)
        else:
            console.print_note("nothing was deleted: to delete without a question, use --yes")
    removed = [usage for usage in usages if usage.removable] if yes else []
    for usage in removed:
        remove_whole(storage, usage.name) if whole else remove_old_checkpoints(storage, usage.name)
    if as_json:
        console.print_json([usage.model_dump() | {"removed": usage in removed} for usage in usages])
    elif removed:
        console.print_note(f"deleted {format_bytes(total)}")
