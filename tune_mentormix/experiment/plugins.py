"""Plug-ins of a search or an export that is stored: allowed only if their source is what it was."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.errors import PluginError
from trainables.plugins import PluginKind, allow_plugins, changed_plugin
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment


def allow_recorded(kinds: Mapping[str, PluginKind], recorded: Mapping[str, str], whose: str) -> None:
    """Allows plug-ins in this process. Raises RequestError if the source of one is not there, or not as recorded.

    `recorded` are the digests by name; `whose` they are, for the message.
    """
    try:
        changed = changed_plugin(recorded, kinds)
    except PluginError as error:
        raise RequestError(str(error)) from error
    if changed:
        raise RequestError(
            f"the source of {kinds[changed]} {changed} is not what it was for {whose}: restore it, or search again"
        )
    allow_plugins(kinds)


def allow_plugins_of(experiment: Experiment) -> None:
    """Allows the plug-ins of a search, as `allow_recorded` does."""
    allow_recorded(experiment.settings.plugins(), experiment.provenance.plug_ins, experiment.name)
