"""Looks at all experiments now and then, so that what happens to searches is logged as it happens."""

from __future__ import annotations

import asyncio
import logging

from tune_mentormix.service.library import Library
from tune_mentormix.service.logs import LOGGER, log
from tune_mentormix.storage.journal import Event

EVERY_SECONDS = 10.0
_LOGGED = {
    "run_started": logging.INFO,
    "run_ended": logging.INFO,
    "proposed": logging.INFO,
    "stopped": logging.INFO,
    "finished": logging.INFO,
    "failed": logging.WARNING,
}


def log_event(name: str, event: Event, node: str | None) -> None:
    """One line for what the journal says happened; not for each epoch."""
    kind = event["event"]
    if kind in _LOGGED:
        about = {"experiment": name, "event": kind, "trial": event.get("trial"), "attempt": event.get("attempt")}
        reason = event.get("error") or event.get("reason")
        log(kind.replace("_", " "), _LOGGED[kind], **about, node=node, reason=reason)


async def look(library: Library) -> None:
    """Reads what is new; trouble is logged, and may be over at the next look."""
    try:
        await asyncio.to_thread(library.summaries)
    except OSError as error:
        log(f"the storage cannot be read: {error}", logging.WARNING)
    except Exception:
        LOGGER.exception("looking at the experiments failed")


async def observe(library: Library) -> None:
    """Goes on until it is cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        await look(library)
