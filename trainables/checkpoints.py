"""Saves a trainer's whole state to a folder, and goes on from it.

Files are written crash-safely, and read without executing anything a file says (`weights_only`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from trainables.manifest import STATE_FILE, is_whole, write_whole
from trainables.training import Trainer

__all__ = ["CheckpointError", "is_whole", "load_checkpoint", "save_checkpoint"]


class CheckpointError(RuntimeError):
    """A checkpoint is missing, torn, or of another kind of trial."""


def save_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Write the trainer's state to `folder`, which is created if missing.

    Raises:
        OSError: if the folder cannot be written.
    """
    write_whole(folder, lambda file: torch.save(trainer.state_dict(), file))


def load_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Let `trainer` go on from the state in `folder`.

    Raises:
        CheckpointError: if there is no whole checkpoint, or it does not fit the trainer's network.
    """
    if not is_whole(folder):
        raise CheckpointError(f"no whole checkpoint in {folder}")
    try:
        state = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
        trainer.load_state_dict(state)
    except Exception as error:
        raise CheckpointError(f"the checkpoint in {folder} does not fit this trial: {error}") from error
