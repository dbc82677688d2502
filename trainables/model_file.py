"""A trained network in one file: safetensors, which holds tensors and text, and no code.

The text describes how to use the weights: the network, its input, its classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import safetensors.torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainables.errors import ModelFileError, describe_value, one_line
from trainables.files import write_atomically
from trainables.settings import NetworkName, Precision, Settings

MODEL_FORMAT = 1  # version of the description; a newer one is refused
DESCRIPTION_KEY = "tune_mentormix"  # in the file's metadata

Side = Annotated[int, Field(ge=1, le=100_000)]  # pixels, or channels


class ModelDescription(Settings):
    """The description of the weights in a model file.

    The network takes pixels in [−1, 1]: those of an image, 0 … 255, by 127.5, less 1.
    """

    format: int = MODEL_FORMAT
    network: NetworkName
    class_names: Annotated[tuple[str, ...], Field(min_length=2)]  # in label order
    input_shape: tuple[Side, Side, Side]  # of an image: height, width, channels
    precision: Precision  # of the evaluation
    epoch: Annotated[int, Field(ge=0)]  # trained so far


class ModelFile(NamedTuple):
    """The content of a model file."""

    description: ModelDescription
    weights: dict[str, Tensor]  # by their names in the network


def write_model(path: Path, model: ModelFile) -> None:
    """Writes a model file atomically; equal models give equal files, byte for byte. Raises OSError.

    The description is one text in JSON: safetensors writes several in an order that changes from run to run.
    """
    text = {DESCRIPTION_KEY: model.description.model_dump_json()}
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.weights.items()}
    write_atomically(path, safetensors.torch.save(weights, metadata=text))


def read_model(path: Path) -> ModelFile:
    """Reads a model file; nothing in it is executed.

    Raises ModelFileError if it is missing or damaged, or another program or a newer version wrote it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {one_line(error)}") from error
    except SafetensorError as error:
        raise ModelFileError(f"{path} is damaged, or no safetensors file: {error}") from error
    if DESCRIPTION_KEY not in text:
        raise ModelFileError(f"{path} was not written by tune-mentormix: its text does not describe a model")
    return ModelFile(_read_description(path, text[DESCRIPTION_KEY]), weights)


def _read_description(path: Path, text: str) -> ModelDescription:
    try:
        values = json.loads(text)
        written = values["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path} does not describe its model: the text is damaged") from error
    if not isinstance(written, int) or written > MODEL_FORMAT:
        reads = f"this version reads up to {MODEL_FORMAT}: upgrade tune-mentormix"
        raise ModelFileError(f"{path} has format {written!r}, {reads}")
    try:
        return ModelDescription.model_validate(values)
    except ValidationError as error:
        raise ModelFileError(f"{path} does not describe its model: {describe_value(error.errors()[0])}") from error
