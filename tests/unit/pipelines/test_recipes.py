import pytest

from servekit.pipelines import recipe, recipes
from tests.unit.pipelines import samples
from tests.unit.pipelines.samples import plan

MODELS = {
    "detect_and_classify": (samples.DETECTOR, samples.CROP_CLASSIFIER),
    "image_classification": (samples.CLASSIFIER,),
    "object_detection": (samples.DETECTOR,),
    "tabular_classification": (samples.TABLE,),
    "text_embedding": (samples.UNNAMED_ENCODER,),
}
CONTRACTS = {
    "detect_and_classify": (
        [("image", "BYTES", [-1])],
        [
            ("boxes", "FP32", [-1, 20, 4]),
            ("scores", "FP32", [-1, 20]),
            ("classes", "INT64", [-1, 20]),
            ("probabilities", "FP32", [-1, 20]),
            ("count", "INT64", [-1, 1]),
        ],
    ),
    "image_classification": (
        [("image", "BYTES", [-1])],
        [("probabilities", "FP32", [-1, 5]), ("classes", "INT64", [-1, 5])],
    ),
    "object_detection": (
        [("image", "BYTES", [-1])],
        [
            ("boxes", "FP32", [-1, 100, 4]),
            ("scores", "FP32", [-1, 100]),
            ("classes", "INT64", [-1, 100]),
            ("count", "INT64", [-1, 1]),
        ],
    ),
    "tabular_classification": (
        [("numbers", "FP32", [-1, 3]), ("city", "BYTES", [-1]), ("plan", "BYTES", [-1])],
        [("class", "INT64", [-1]), ("probabilities", "FP32", [-1, 2])],
    ),
    "text_embedding": ([("text", "BYTES", [-1])], [("embedding", "FP32", [-1, 384])]),
}


def test_every_recipe_is_tried():
    assert set(recipes()) == set(MODELS) == set(CONTRACTS)


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_fits_a_model_of_its_kind_and_shows_its_own_contract(name):
    contract = plan(recipe(name).decode(), *MODELS[name]).contract()
    shown = [
        [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in contract[way]]
        for way in ("inputs", "outputs")
    ]
    assert tuple(shown) == CONTRACTS[name]


def test_classifying_images_takes_less_than_fifteen_lines():
    lines = [line for line in recipe("image_classification").decode().splitlines() if not line.startswith("#")]
    assert len(lines) < 15


def test_an_encoder_that_names_its_axes_needs_no_shapes():
    text = recipe("text_embedding").decode()
    without = text[: text.index("model:")] + text[text.index("after:") :]
    assert plan(without, samples.ENCODER).contract() == plan(text, samples.UNNAMED_ENCODER).contract()
    said = samples.refused(without, samples.UNNAMED_ENCODER)
    assert "after step 1 (vectors.mean_pool)" in said
    assert "the model's shapes" in said
