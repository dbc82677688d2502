"""Connecting to Ray and checking, before anything starts, that the trials can run there."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from tune_mentormix.errors import RequestError
from tune_mentormix.settings import SearchSettings


@contextmanager
def connection(address: str | None, verbose: bool) -> Iterator[None]:
    """Joins the cluster at `address` (or `RAY_ADDRESS`), or starts Ray on this machine for itself alone.

    Ray's own ports listen on every interface and it offers no other way (2.60), so the Ray started here demands a
    token that only this process and its workers know.

    Within a process that is connected already, that connection is used and left as it is.

    Raises:
        RequestError: if there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    _connect(address or os.environ.get("RAY_ADDRESS"), verbose)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None, verbose: bool) -> None:
    if not verbose:
        warnings.filterwarnings("ignore", module=r"ray\..*")
        for name in ("ray", "ray.tune", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    if address is None and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or Ray writes one that everybody can read
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.CRITICAL,
            configure_logging=verbose,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address is None:
            raise
        reason = str(error).splitlines()[0]
        raise RequestError(f"no Ray cluster answers at {address!r} (--address): {reason}") from error


def trials_that_fit(settings: SearchSettings) -> int:
    """How many trials the nodes can run at once."""
    wanted = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus()}
    return sum(
        min(int(node.get(resource, 0.0) / amount) for resource, amount in wanted.items() if amount)
        for node in _nodes()
    )


def decide_gpus(settings: SearchSettings) -> SearchSettings:
    """Gives each trial a GPU where a node has any, if nothing was said about GPUs."""
    if settings.gpus_per_trial is not None:
        return settings
    has_gpus = any(node.get("GPU", 0.0) >= 1 for node in _nodes())
    return settings.model_copy(update={"gpus_per_trial": 1.0 if has_gpus else 0.0})


def check_resources(settings: SearchSettings) -> None:
    """Raises RequestError if the cluster can never run even one trial."""
    nodes = _nodes()
    for resource, key, wanted in (
        ("CPU", "cpus_per_trial", settings.cpus_per_trial),
        ("GPU", "gpus_per_trial", settings.gpus()),
    ):
        most = max(node.get(resource, 0.0) for node in nodes)
        if wanted > most:
            raise RequestError(
                f"{key} must be at most {most:g}, the {resource}s of the largest node, got {wanted:g} "
                f"(--{key.replace('_', '-')})"
            )


def _nodes() -> list[dict[str, float]]:
    """The resources of every live node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
