"""The options of the commands: those for settings are made from the settings, their docstrings and defaults."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.markup import escape

from search_spaces import shipped_spaces
from trainables.settings import OwnNetwork, TrialSettings
from tune_mentormix.config.settings import (
    DURATIONS,
    ENVIRONMENT,
    KEYS_PAGE,
    RESUMABLE,
    STORAGE,
    SearchSettings,
    option_name,
)
from tune_mentormix.config.validation import choices
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.paths import Location, RemotePath, as_location

PANELS = {  # the settings that have an option, in the order of --help; all others: --set
    "Data": (
        *("dataset", "data_dir", "image_size", "max_images", "labels_file", "labels_key", "noise", "noise_kind"),
        *("validation_fraction", "validation_labels", "clean_validation", "data_seed", "cache_dir"),
    ),
    "Method": ("network", "preset", "epochs", "precision", "seed"),
    "Search": ("name", "space", "start_from", "sampler", "scheduler", "grace_period", "reduction_factor"),
    "Budget": ("num_samples", "time_budget", "epoch_budget", "patience", "trial_timeout"),
    "Resources": (
        "cpus_per_trial",
        "gpus_per_trial",
        "max_concurrent",
        "checkpoint_every",
        "max_restarts",
        "address",
    ),
    "Storage": ("storage", "tracker"),
}
SEARCH_OPTIONS = tuple(name for names in PANELS.values() for name in names)
SUBMIT_OPTIONS = tuple(name for name in SEARCH_OPTIONS if name != "address")
RESUME_OPTIONS = (*RESUMABLE, "address")
RESOURCE_OPTIONS = ("time_budget", "cpus_per_trial", "gpus_per_trial", "max_concurrent", "address")  # of `confirm`
FIELDS = {**SearchSettings.model_fields, "precision": TrialSettings.model_fields["precision"]}
DEPENDS = ("noise",)  # whose default depends on another setting: the help text gives it
OPEN = ("network", "space")  # which may be something else than a built-in one
METAVARS = {"storage": "<folder|uri>"} | dict.fromkeys(DURATIONS, "<time>")
NOTHING_SET: list[str] = []


def command() -> str:
    """How the user calls this program, so that the commands it prints can be pasted."""
    if Path(sys.argv[0]).name != "run_search.py":
        return "tune-mentormix"
    python = os.path.relpath(sys.executable)
    return f"{sys.executable if python.startswith('..') else python} {sys.argv[0]}"


def examples(*commands: str) -> str:
    """The end of a command's --help: commands to paste, `# …` above what needs an explanation."""
    lines = [line if line.startswith("#") else f"{command()} {line}" for line in commands]
    return "\n".join(["[bold]Examples[/bold]", *map(escape, lines)])


def option(text: str, default: str | bool = False, **more: Any) -> Any:
    """An option whose default is not shown, or is shown as the text given."""
    return typer.Option(help=text, show_default=default, **more)


def parse_storage(value: str | Path) -> Location:
    """Reads --storage. Raises RequestError if it is neither a folder nor the URI of an object store."""
    try:
        return as_location(value)
    except ValueError as error:
        raise RequestError(f"storage: {error} (--storage)") from error


def with_settings(
    names: Iterable[str], defaults: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command one option for each setting; it receives those that the user gave, as `settings`, by name.

    Args:
        names: of settings, in the order of `PANELS`.
        defaults: whether an option that is not given has the setting's default, not the last run's value.
    """
    asked = sorted(names, key=SEARCH_OPTIONS.index)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(context: typer.Context, **arguments: Any) -> None:
            values = {name: arguments.pop(name) for name in asked}
            sources = {name: context.get_parameter_source(name) for name in asked}
            given = {name: values[name] for name in asked if getattr(sources[name], "name", "DEFAULT") != "DEFAULT"}
            function(settings=given, **arguments)

        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "settings"]
        first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        made = [_parameter(name, defaults) for name in asked]
        keywords = [first, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *made]
        wrapped.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]  # what Typer reads
        return wrapped

    return decorate


def _parameter(name: str, defaults: bool) -> inspect.Parameter:
    """The option of one setting, as Typer reads it from a signature."""
    field = FIELDS[name]
    default = field.default if defaults and field.default is not PydanticUndefined else None
    values = _choices(name, field)
    listed = f" {'Built-in' if name in OPEN else 'One of'}: {', '.join(values)}." if values else ""
    described = (field.description or "").split("\n\n")[0].replace("\n", " ").replace("`", "")
    text = described if defaults else described.partition(" Not set:")[0]
    declared = typer.Option(
        option_name(name),
        help=escape(text + listed),
        rich_help_panel=next(panel for panel, names in PANELS.items() if name in names),
        show_default=default is not None and name not in DEPENDS,
        envvar=ENVIRONMENT.get(name),
        metavar=METAVARS.get(name, "<name>" if values else None),
        autocompletion=(lambda: list(values)) if values else None,
    )
    annotation: Any = Annotated[str | None if name in DURATIONS else _option_type(field), declared]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _choices(name: str, field: FieldInfo) -> tuple[str, ...]:
    """What a setting may be, where that is one of a few names."""
    if name == "network":
        return get_args(OwnNetwork)
    return tuple(shipped_spaces()) if name == "space" else choices(field.annotation)


def _option_type(field: FieldInfo) -> Any:
    """The type that Typer reads an option as; the settings check the value themselves."""
    kinds = _plain_types(field.annotation)
    if list in kinds:
        return list[str] | None
    if RemotePath in kinds:
        return str | None
    return next((kind for kind in (int, float, Path) if kind in kinds), str) | None


def _plain_types(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _plain_types(part)]
    if hasattr(annotation, "__metadata__"):
        return _plain_types(annotation.__origin__)
    return [origin or annotation]


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """The experiments of a local storage folder whose name begins so, for the shell's completion."""
    storage = Path(str(ctx.params.get("storage") or os.environ.get(ENVIRONMENT["storage"]) or STORAGE))
    return sorted(path.parent.name for path in storage.glob(f"{incomplete}*/search.yaml"))


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Experiment name.", show_default=False, autocompletion=complete_name)
]
Storage = Annotated[  # a Location; Typer knows no unions
    Any,
    typer.Option(
        help=(FIELDS["storage"].description or "").split("\n\n")[0],
        parser=parse_storage,
        metavar="<folder|uri>",
        envvar=ENVIRONMENT["storage"],
        rich_help_panel="Storage",
    ),
]
RayAddress = Annotated[
    str | None,
    option(FIELDS["address"].description or "", envvar=ENVIRONMENT["address"], rich_help_panel="Resources"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's log output.")]
Config = Annotated[Path | None, option("YAML file of settings; options win over it.")]
Assignments = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=f"Any setting of the search or its trials, such as batch_size=64. Repeatable. {KEYS_PAGE} list them.",
        show_default=False,
    ),
]
Dashboard = Annotated[
    str | None,
    typer.Option(
        "--dashboard",
        help="Address of the Ray cluster's dashboard, such as http://HEAD:8265.",
        show_default="RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or http://127.0.0.1:8265",
        envvar=ENVIRONMENT["dashboard"],
        rich_help_panel="Cluster",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Use a cluster that has no authentication.", rich_help_panel="Cluster"),
]
