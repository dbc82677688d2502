"""A classifier as an ONNX file, preprocessing included, for runtimes without PyTorch; checked against PyTorch."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import torch

from trainables.errors import MissingPackageError, ModelFileError, one_line
from trainables.files import write_atomically
from trainables.inference import Classifier
from trainables.model_file import ModelFile

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of a probability: runtimes sum in other orders
CHECKED_IMAGES = 8


def check_onnx_packages() -> None:
    """Raises MissingPackageError unless all packages that `write_onnx` needs are installed."""
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingPackageError(
            f"ONNX needs {', '.join(missing)}: make install EXTRAS=onnx, "
            "or without a checkout pip install 'tune-mentormix[onnx]'"
        )


def write_onnx(path: Path, model: ModelFile) -> float:
    """Writes a float32 classifier; the file appears only if ONNX Runtime computes the same as PyTorch.

    Its input is `images` [N, H, W, C] uint8 for any N, its output `probabilities` [N, K]; the class names are in its
    metadata, a JSON list under `class_names`. Returns the largest difference of a probability between the two, on
    random images. Raises MissingPackageError, OSError, and ModelFileError if the network cannot be expressed or the
    two differ by more than `TOLERANCE`.
    """
    check_onnx_packages()
    from onnxruntime import InferenceSession

    description = model.description.model_copy(update={"precision": "fp32"})
    classifier = Classifier(ModelFile(description, model.weights), torch.get_num_threads(), "cpu")
    shape = (CHECKED_IMAGES, *description.input_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    content = _converted(classifier, torch.from_numpy(images))
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"images": images})
    difference = float(np.abs(probabilities - classifier.classify(images)).max())
    if not difference <= TOLERANCE:  # NaN too
        differ = f"differ by {difference:.1g} in a probability, {TOLERANCE} is allowed"
        raise ModelFileError(f"ONNX and PyTorch {differ}: export without --onnx")
    write_atomically(path, content)
    return difference


def _converted(classifier: Classifier, images: torch.Tensor) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            classifier,
            (images,),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
            verbose=False,
        )
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        raise ModelFileError(
            f"{classifier.description.network} cannot be turned into ONNX: {one_line(error)}"
        ) from error
    assert program is not None  # with dynamo it always is one
    program.model.metadata_props["class_names"] = json.dumps(classifier.description.class_names)
    content: bytes = program.model_proto.SerializeToString()
    return content
