"""The options of the commands: those for settings are made from the settings, their docstrings and defaults."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from pydantic_core import PydanticUndefined
from rich.markup import escape

from search_spaces import shipped_spaces
from trainables.errors import describe_value
from trainables.files import user_path
from trainables.settings import DeviceName, OwnNetwork, TrialSettings
from tune_mentormix.config.settings import ENVIRONMENT, KEYS_PAGE, RESUMABLE, STORAGE, SearchSettings, option_name
from tune_mentormix.config.validation import choices
from tune_mentormix.errors import RequestError
from tune_mentormix.formatting import command
from tune_mentormix.storage.paths import Location, as_location

PANELS = {  # the settings that have an option, in the order of --help; all others: --set
    "Data": (
        *(
            "dataset",
            "data_dir",
            "image_size",
            "images_in",
            "max_images",
            "labels_file",
            "labels_key",
            "noise",
            "noise_kind",
        ),
        *("validation_fraction", "validation_labels", "clean_validation", "verified", "data_seed", "cache_dir"),
    ),
    "Method": ("network", "preset", "epochs", "precision", "seed"),
    "Search": (
        "name",
        "owner",
        "space",
        "start_from",
        "metric",
        "sampler",
        "scheduler",
        "grace_period",
        "reduction_factor",
    ),
    "Budget": ("num_samples", "time_budget", "epoch_budget", "patience", "until_gain", "trial_timeout"),
    "Resources": (
        *("cpus_per_trial", "gpus_per_trial", "device", "max_concurrent", "wait_for_nodes"),
        *("checkpoint_every", "max_restarts", "address"),
    ),
    "Storage": ("storage", "tracker"),
}
SEARCH_OPTIONS = tuple(name for names in PANELS.values() for name in names)
SUBMIT_OPTIONS = tuple(name for name in SEARCH_OPTIONS if name != "address")
RESUME_OPTIONS = (*RESUMABLE, "address")
RESOURCE_OPTIONS = (  # of `confirm`
    *("time_budget", "cpus_per_trial", "gpus_per_trial", "device", "max_concurrent", "wait_for_nodes", "address"),
)
FIELDS = {**SearchSettings.model_fields, "precision": TrialSettings.model_fields["precision"]}
SCHEMAS = TrialSettings.model_json_schema()["properties"] | SearchSettings.model_json_schema()["properties"]
DEPENDS = ("noise",)  # whose default depends on another setting: the help text gives it
BUILT_IN = {"network": get_args(OwnNetwork), "space": tuple(shipped_spaces())}  # which may be something else, too
PATHS = ("data_dir", "labels_file", "clean_validation", "verified", "cache_dir", "start_from")
NUMBERS = {"integer": "<int>", "number": "<float>"}  # options whose value is a number
METAVARS = {
    **dict.fromkeys(PATHS, "<path>"),
    **{"storage": "<folder|uri>", "time_budget": "<time>", "trial_timeout": "<time>", "wait_for_nodes": "<time>"},
}
NOTHING_SET: list[str] = []
Decorator = Callable[[Callable[..., None]], Callable[..., None]]


class Commands(typer.Typer):
    """The commands of one panel of the program's --help."""

    def __init__(self, panel: str) -> None:
        super().__init__()
        self._panel = panel

    def with_examples(self, *lines: str, name: str | None = None) -> Decorator:
        """Adds a command, and these examples to its --help."""
        return self.command(name, rich_help_panel=self._panel, epilog=examples(*lines))


def examples(*commands: str) -> str:
    """Returns the end of a command's --help: commands to paste."""
    return "\n".join(["[bold]Examples[/bold]", *(escape(command(line)) for line in commands)])


def option(text: str, default: str | bool = False, **more: Any) -> Any:
    """Returns an option whose default is not shown, or is shown as the text given."""
    return typer.Option(help=text, show_default=default, **more)


def argument(metavar: str, text: str, **more: Any) -> Any:
    """Returns an argument whose default is not shown."""
    return typer.Argument(metavar=metavar, help=text, show_default=False, **more)


def path_option(text: str, default: str | bool = False) -> Any:
    """Returns an option that takes the path of a file or a folder, which need not exist."""
    return option(text, default, parser=parse_path, metavar="<path>")


def parse_path(value: str | Path) -> Path:
    """Reads a path, in which `~` is a home folder. Raises typer.BadParameter if no file can have it."""
    try:
        return user_path(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_storage(value: str | Path) -> Location:
    """Reads --storage. Raises RequestError if it is neither a folder nor the URI of an object store."""
    try:
        return as_location(value)
    except ValueError as error:
        raise RequestError(f"storage: {error} (--storage)") from error


def with_settings(names: Iterable[str], defaults: bool = True) -> Decorator:
    """Gives a command an option for each of these settings; it receives those that the user gave as `settings`.

    `defaults` is false where an option that is not given keeps its earlier value, so that `--help` shows no default.
    """
    asked = sorted(names, key=SEARCH_OPTIONS.index)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(context: typer.Context, **arguments: Any) -> None:
            values = {name: arguments.pop(name) for name in asked}
            sources = {name: context.get_parameter_source(name) for name in asked}
            given = [name for name in asked if getattr(sources[name], "name", "DEFAULT") != "DEFAULT"]
            function(settings={name: _as_number(name, values[name]) for name in given}, **arguments)

        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "settings"]
        first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        made = [_parameter(name, defaults) for name in asked]
        keywords = [first, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *made]
        wrapped.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]  # what Typer reads
        return wrapped

    return decorate


def _parameter(name: str, defaults: bool) -> inspect.Parameter:
    """Returns the option of one setting, as Typer reads it from a signature."""
    field = FIELDS[name]
    default = field.default if defaults and field.default is not PydanticUndefined else None
    values = BUILT_IN.get(name, choices(field.annotation))
    listed = f" {'Built-in' if name in BUILT_IN else 'One of'}: {', '.join(values)}." if values else ""
    described = (field.description or "").split("\n\n")[0].replace("\n", " ").replace("`", "")
    text = described if defaults else described.partition(" Not set:")[0]
    declared = typer.Option(
        option_name(name),
        help=escape(text + listed),
        rich_help_panel=next(panel for panel, names in PANELS.items() if name in names),
        show_default=default is not None and name not in DEPENDS,
        envvar=ENVIRONMENT.get(name),
        metavar=METAVARS.get(name) or ("<name>" if values else _number(name)),
        autocompletion=(lambda: list(values)) if values else None,
    )
    annotation: Any = Annotated[_option_type(name), declared]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option_type(name: str) -> Any:
    """Returns the type that Typer reads an option as: text, since the settings check the value.

    A setting that is a list can be given more than once.
    """
    kinds = _kinds(name)
    return (list[str] if "array" in kinds and "string" not in kinds else str) | None


def _number(name: str) -> str | None:
    """Returns how --help shows the value of an option that takes a number; None for another one."""
    return next((shown for kind, shown in NUMBERS.items() if kind in _kinds(name)), None)


def _as_number(name: str, value: Any) -> Any:
    """Returns the number that the text of an option is, where the setting takes one; other text as it is."""
    if not isinstance(value, str) or _number(name) is None or "string" in _kinds(name):
        return value
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value


def _kinds(name: str) -> set[str | None]:
    schema = SCHEMAS[name]
    return {part.get("type") for part in schema.get("anyOf", [schema])}


def describe_usage(error: typer.TyperException) -> str:
    """Describes what is wrong with a command line in one line; Typer gives pydantic's own words for a value."""
    cause, parameter = error.__cause__, getattr(error, "param", None)
    if not isinstance(cause, ValidationError) or parameter is None:
        return error.format_message()
    name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name
    return describe_value(cause.errors()[0] | {"loc": (name,)})


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the experiments of a local storage folder whose name begins so, for the shell's completion."""
    storage = Path(str(ctx.params.get("storage") or os.environ.get(ENVIRONMENT["storage"]) or STORAGE))
    return sorted(path.parent.name for path in storage.glob(f"{incomplete}*/search.yaml"))


Name = Annotated[str, argument("NAME", "Experiment name.", autocompletion=complete_name)]
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
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's log output.")]
Config = Annotated[Path | None, path_option("YAML file of settings; options win over it.")]
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
    option(
        "Address of the Ray cluster's dashboard, such as http://HEAD:8265.",
        "RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or http://127.0.0.1:8265",
        envvar=ENVIRONMENT["dashboard"],
        rich_help_panel="Cluster",
    ),
]
Device = Annotated[
    DeviceName, typer.Option(help="Device to use; auto is a CUDA GPU if there is one, otherwise the CPU.")
]
PlugIns = Annotated[
    list[str] | None,
    option(
        "A plug-in whose code may run, where what was exported needs one. Repeatable.",
        metavar="<package.module:name>",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Use a cluster that has no authentication.", rich_help_panel="Cluster")
]
