import pytest

from servekit.pipelines import ModelContract, PipelineError
from servekit.pipelines.plan import KernelCall, ModelCall
from tests.unit.pipelines import samples
from tests.unit.pipelines.samples import IMAGE_STEPS, model, plan, ports, refused, tensor

ANYTHING = model("own", [tensor("x", "FP32", -1, "wide")], [tensor("y", "FP32", -1, "wide")])


def test_every_value_has_a_type_and_every_step_a_place():
    found = plan(IMAGE_STEPS)
    decode, resize = found.stages
    normalise, run = found.batch
    assert ports(found, decode.inputs) == ["image bytes []"]
    assert ports(found, decode.outputs) == ["image uint8 [height, width, 3]"]
    assert ports(found, resize.outputs) == ["image uint8 [224, 224, 3]", "placement float32 [4]"]
    assert (type(normalise), type(run)) == (KernelCall, ModelCall)
    assert ports(found, normalise.outputs) == ["pixels float32 [3, 224, 224]"]
    assert found.values[run.outputs["logits"]].place == "batch"
    assert [found.values[number].name for number in found.gathered] == ["image"]


def test_a_name_means_the_value_that_had_it_last():
    found = plan(IMAGE_STEPS + "outputs: [image, logits]")
    assert found.values[found.outputs["image"]].shape == (224, 224, 3)


def test_without_inputs_clients_send_what_the_model_takes():
    optional = tensor("t", "FP32", -1, 1, optional=True)
    found = plan("after: [{use: scores.softmax}]", model("own", [tensor("x", "FP32", -1, 4), optional], [*_scores()]))
    assert found.contract()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


def _scores():
    return [tensor("y", "FP32", -1, 3)]


def test_without_outputs_clients_get_what_the_last_step_gives():
    assert list(plan("after: [{use: scores.top_k, with: {count: 2}}]", samples.SCORER).outputs) == ["values", "indices"]


def test_a_step_that_says_nothing_takes_the_first_of_the_step_before():
    found = plan("after: [{use: scores.softmax}, {use: scores.argmax}]", samples.SCORER)
    assert ports(found, found.batch[2].inputs) == ["probabilities float32 [3]"]


def test_several_inputs_are_found_by_name():
    found = plan(
        "inputs: {plan: int64, city: int64, numbers: 'float32[3]'}\nafter: [{use: scores.argmax, from: probabilities}]",
        samples.COLUMNS,
    )
    assert {name: found.values[number].name for name, number in found.batch[0].inputs.items()} == {
        "numbers": "numbers",
        "city": "city",
        "plan": "plan",
    }


def test_an_optional_input_is_taken_where_there_is_one():
    contract = model(
        "own", [tensor("x", "FP32", -1, 4), tensor("t", "FP32", -1, 1, optional=True)], [tensor("y", "FP32", -1, 3)]
    )
    assert set(plan("inputs: {a: 'float32[4]'}", contract).batch[0].inputs) == {"x"}
    assert set(plan("inputs: {a: 'float32[4]', t: float32}", contract).batch[0].inputs) == {"x", "t"}


def test_rows_of_another_image_have_another_size():
    text = """
inputs: {first: bytes, second: bytes}
before:
  - {use: decode_image, from: first, as: one}
  - {use: decode_image, from: second, as: other}
  - {use: resize, from: one, with: {width: 224, height: 224}}
  - use: image.normalise
outputs: [logits, other]
"""
    found = plan(text)
    assert found.values[found.outputs["other"]].shape == ("height_2", "width_2", 3)


def test_stages_may_follow_kernels_that_have_nothing_to_do_with_them():
    text = """
inputs: {numbers: 'float32[3]', city: string, plan: int64}
before:
  - {use: numbers.clip, from: numbers, as: numbers}
  - {use: lookup, from: city, as: city, with: {categories: [oslo]}}
"""
    found = plan(text, samples.COLUMNS)
    assert [call.kind for call in found.stages] == ["lookup"]


def test_options_of_different_lengths_are_told_with_their_step():
    said = refused(IMAGE_STEPS + "    with: {mean: [0.5, 0.5]}", samples.CLASSIFIER)
    assert "before step 3 (image.normalise): kernel 'normalise': option 'mean' has 2 values, expected 3" in said
    assert said.endswith("one for each of 'channels'; correct it under with")


def test_a_graph_runs_models_in_the_order_of_its_steps():
    first = model("first", [tensor("x", "FP32", -1, 4)], [tensor("features", "FP32", -1, 8)])
    second = model("second", [tensor("features", "FP32", -1, 8)], [tensor("y", "FP32", -1, 3)])
    found = plan("inputs: {x: 'float32[4]'}\nbefore: [{model: first}]\nmodel: second\n", first, second)
    assert found.models == ("first", "second")
    assert ports(found, found.batch[1].inputs.values()) == ["features float32 [8]"]
    without_main = plan("inputs: {x: 'float32[4]'}\nbefore: [{model: first}, {model: second}]", first, second)
    assert without_main.models == ("first", "second")


def test_a_models_strings_are_any_bytes():
    contract = model("own", [tensor("x", "BYTES", -1)], [tensor("y", "FP32", -1, 3)])
    for sent in ("bytes", "string"):
        assert plan(f"inputs: {{x: {sent}}}", contract).contract()["inputs"][0]["datatype"] == "BYTES"


def test_what_the_file_leaves_open_is_as_the_pipeline_says():
    found = plan("model: {shapes: {y: [3]}}\nafter: [{use: scores.softmax}]", _opened())
    assert found.contract()["outputs"][0]["shape"] == [-1, 3]


def _opened():
    return model("own", [tensor("x", "FP32", -1, 4)], [tensor("y", "FP32", -1, -1)])


def test_axes_with_names_that_are_no_words_become_words():
    contract = model("own", [tensor("x", "FP32", "b", "dynamic_axes::x.1")], [tensor("y", "FP32", "b", "12 + n")])
    found = plan("inputs: {x: 'float32[4]'}\nafter: [{use: scores.softmax}]", contract)
    assert found.values[found.outputs["probabilities"]].shape == ("axis_12___n",)


def test_a_model_without_an_axis_of_rows_is_no_part_of_a_pipeline():
    with pytest.raises(PipelineError, match="input 'x' has no axes"):
        model("own", [tensor("x", "FP32")], [tensor("y", "FP32", -1)])
    only_scalars = model("own", [tensor("x", "FP32", -1, 4)], [tensor("y", "FP32")])
    assert "no output of the model has an axis that counts rows" in refused("", only_scalars)


STEPS = "inputs: {image: bytes}\nbefore:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (STEPS + "  - use: decode-image", "step 1 (decode-image): no stage is called so; did you mean 'decode_image'?"),
        ("after: [{use: softmax}]", "after step 1 (softmax): no stage is called so; did you mean 'scores.softmax'?"),
        ("after: [{use: scores.sofmax}]", "after step 1 (scores.sofmax): unknown; did you mean 'scores.softmax'?"),
        ("after: [{use: scores.top_k, with: {cuont: 3}}]", "'top_k' has no option 'cuont', it has count; correct"),
        ("after: [{use: scores.top_k, with: {count: -3}}]", "output 'values' would be float32 [rows, -3], sizes"),
        (STEPS + "  - {use: decode_image, with: {mod: rgb}}", "before step 1 (decode_image): option 'mod' is unknown"),
        (
            STEPS + "  - {use: resize, with: {width: 4, height: 4}}",
            "is 'image' bytes [], expected uint8 [height, width, channels]; decode it first, by decode_image",
        ),
        (
            "inputs: {a: 'float32[3]', b: int64}\nbefore: [{use: numbers.concat, from: [a, b]}]",
            "'right' is int64 [rows, 1], expected float32 [rows, 1]; make columns of categories by numbers.one_hot",
        ),
        (
            "inputs: {image: string}\nbefore: [{use: decode_image}]",
            "is 'image' string [], expected bytes []; declare the input as bytes, or put base64 before the step",
        ),
        (
            IMAGE_STEPS.replace("width: 224", "width: 200"),
            "model (own): input 'pixels' is 'pixels' float32 [3, 224, 200], expected float32 [3, 224, 224]; change",
        ),
        (
            STEPS + "  - use: decode_image\n  - use: image.normalise",
            "float32 [3, height, width], expected float32 [3, 224, 224]; 'height' is open here, fix its size by",
        ),
        (
            STEPS + "  - {use: decode_image, with: {mode: gray}}\n  - use: image.normalise",
            "'image' is uint8 [rows, height, width, 1], expected uint8 [rows, height, width, 3]; change the step",
        ),
        (
            STEPS + "  - use: image.normalise",
            "input 'image' is bytes [rows], expected uint8 [rows, height, width, 3]; decode it first",
        ),
        (
            STEPS + "  - use: decode_image\n  - use: scores.softmax",
            "expected float32 [rows, height]; make numbers of the pixels first, by image.normalise",
        ),
        (IMAGE_STEPS + "  - {use: decode_image, from: pixels}", "which exists once the batch has formed"),
        (
            IMAGE_STEPS + "after: [{use: tokenize}]",
            "after step 1 (tokenize): a stage sees single rows before the batch forms, found after model (own); move",
        ),
        (IMAGE_STEPS + "  - {use: numbers.clip, from: pixls}", "'pixls' is no value; did you mean 'pixels'?"),
        (IMAGE_STEPS + "  - {use: numbers.clip, from: {valus: a}}", "'valus' in from is nothing it takes; did"),
        (IMAGE_STEPS + "  - {use: numbers.clip, from: [pixels, image]}", "from names 2 values, it takes 1 (values)"),
        (IMAGE_STEPS + "after: [{use: scores.top_k, as: [a, a]}]", "'a' names two outputs"),
        (IMAGE_STEPS + "after: [{use: vectors.mean_pool}]", "input 'tokens' has no value, known are image, placement"),
        (IMAGE_STEPS + "outputs: [logit]", "outputs: 'logit' is no value; did you mean 'logits'?"),
        (IMAGE_STEPS + "model: {shapes: {logit: [4]}}", "shapes names 'logit', no output; did you mean 'logits'?"),
        (IMAGE_STEPS + "model: {shapes: {logits: [4]}}", "is float32 [4], the model says float32 [1000]; correct it"),
        (IMAGE_STEPS + "model: {shapes: {logits: [1000, 2]}}", "is float32 [1000, 2], the model says float32 [1000]"),
        (IMAGE_STEPS + "model: owl", "model: model 'owl' is not served; did you mean 'own'?"),
        (IMAGE_STEPS + "after: [{model: other}]", "after step 1 (other): model 'other' is not served"),
        (IMAGE_STEPS.replace("bytes}", "bytes, size: int64}"), "input 'size' is taken by no step; remove it"),
        (IMAGE_STEPS + "  - use: kernels.py:crop", "start with --allow-code if you trust it"),
    ],
)  # fmt: skip
def test_a_step_that_does_not_fit_is_told_with_what_was_found_and_expected(text, said):
    assert said in refused(text)


def test_sizes_with_two_names_are_not_taken_for_one():
    text = "inputs: {first: 'float32[n]', second: 'float32[m]'}"
    contract = model(
        "own",
        [tensor("first", "FP32", -1, "wide"), tensor("second", "FP32", -1, "wide")],
        [tensor("y", "FP32", -1, "wide")],
    )
    said = refused(text, contract)
    assert "is 'second' float32 [m], expected float32 [n]; sizes with two names may differ" in said
    assert plan(text.replace("[m]", "[n]"), contract).contract()["outputs"][0]["shape"] == [-1, -1]


def test_a_pipeline_has_a_limited_number_of_steps():
    text = "after: [{}]".format(", ".join(["{use: numbers.clip}"] * 31))
    assert len(plan(text, ANYTHING).batch) == 32
    said = refused(text.replace("[", "[{use: numbers.clip}, ", 1), ANYTHING)
    assert (
        "has 33 steps with its model, at most 32 are allowed; join kernels into one or raise pipeline_stages_max"
        in said
    )


def test_a_pipeline_without_a_model_or_inputs_is_none():
    other = ModelContract("other", samples.SCORER.inputs, samples.SCORER.outputs)
    assert "it runs no model" in refused("inputs: {x: float32}\nbefore: [{use: numbers.clip}]", other)
    assert "it has no inputs" in refused("before: [{use: numbers.clip}]", other)


def test_every_step_is_shown_with_where_it_runs():
    shown = plan(IMAGE_STEPS).shown()
    assert shown[0] == "row   before step 1 (decode_image): image bytes [] → image uint8 [height, width, 3]"
    assert [line.split()[0] for line in shown] == ["row", "row", "batch", "model"]
