"""Labels for image files, by exported weights, with the preprocessing of the data they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.classifier import load_classifier
from trainables.errors import DatasetError, ModelFileError
from trainables.image_files import read_image
from tune_mentormix.errors import RequestError
from tune_mentormix.exported import ExportedFolder
from tune_mentormix.exported_files import MODEL_FILE


@dataclass(frozen=True)
class Prediction:
    """What one image shows, as far as the network can tell."""

    image: str
    label: str
    probability: float  # of that label

    def as_json(self) -> dict[str, Any]:
        """What `predict --json` shows of it."""
        return asdict(self)


def predict_images(exported: ExportedFolder, paths: Sequence[Path]) -> list[Prediction]:
    """Classifies image files, in their order.

    They are turned into RGB or grey, resized until they just cover the network's input, and cut to its middle.

    Raises:
        RequestError: if the weights do not fit their network, or a file is no image.
    """
    try:
        classifier = load_classifier(exported.path / MODEL_FILE, exported.config.threads)
        height, width, channels = classifier.description.input_shape
        images = np.stack([read_image(path, (height, width), channels) for path in paths])
    except (DatasetError, ModelFileError) as error:
        raise RequestError(str(error)) from error
    probabilities = classifier.classify(images)
    names = classifier.description.class_names
    return [
        Prediction(str(path), names[int(row.argmax())], float(row.max()))
        for path, row in zip(paths, probabilities, strict=True)
    ]
