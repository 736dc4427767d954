"""Models and pipelines that the laws are about."""

import pytest

from servekit.errors import ServekitError
from servekit.pipelines import ModelContract, PipelineError, Surroundings, planned, read


def tensor(name, datatype, *axes, **more):
    return {"name": name, "datatype": datatype, "shape": list(axes), **more}


def model(name, inputs, outputs):
    return ModelContract.of({"name": name, "inputs": inputs, "outputs": outputs})


CLASSIFIER = model("own", [tensor("pixels", "FP32", -1, 3, 224, 224)], [tensor("logits", "FP32", -1, 1000)])
ENCODER = model(
    "own",
    [tensor(name, "INT64", "batch", "sequence") for name in ("input_ids", "attention_mask", "token_type_ids")],
    [tensor("last_hidden_state", "FP32", "batch", "sequence", 384)],
)
UNNAMED_ENCODER = model(
    "own",
    [tensor(name, "INT64", -1, -1) for name in ("input_ids", "attention_mask", "token_type_ids")],
    [tensor("last_hidden_state", "FP32", -1, -1, 384)],
)
CLASSES = [tensor("label", "INT64", -1), tensor("probabilities", "FP32", -1, 2)]
TABLE = model("own", [tensor("features", "FP32", -1, 9)], CLASSES)
COLUMNS = model(
    "own",
    [tensor("numbers", "FP32", -1, 3), tensor("city", "INT64", -1, 1), tensor("plan", "INT64", -1, 1)],
    CLASSES,
)
DETECTOR = model("own", [tensor("images", "FP32", -1, 3, 640, 640)], [tensor("output0", "FP32", -1, 84, 8400)])
CROP_CLASSIFIER = model("classifier", [tensor("pixels", "FP32", -1, 3, 224, 224)], [tensor("logits", "FP32", -1, 10)])
SCORER = model("own", [tensor("x", "FP32", -1, 4)], [tensor("y", "FP32", -1, 3)])

IMAGE_STEPS = """
inputs: {image: bytes}
before:
  - use: decode_image
  - use: resize
    with: {width: 224, height: 224}
  - use: image.normalise
"""


def plan(text, *contracts, **surroundings):
    known = {contract.name: contract for contract in contracts or (CLASSIFIER,)}
    return planned(read(text.encode(), "model.yaml"), Surroundings("own", known, **surroundings))


def refused(text, *contracts, **surroundings):
    """What is said about a pipeline that does not fit; it follows the rules of all texts."""
    with pytest.raises(PipelineError) as caught:
        plan(text, *contracts, **surroundings)
    said = str(caught.value)
    assert said.startswith("pipeline of 'own'")
    assert not said.endswith(".")
    assert caught.value.label == "model_file"
    return said


def unreadable(text):
    with pytest.raises(ServekitError) as caught:
        read(text.encode(), "model.yaml")
    return str(caught.value)


def ports(found, numbers):
    """Names and types of values, as messages show them."""
    return [f"{found.values[number].name} {found.values[number].port}" for number in numbers]
