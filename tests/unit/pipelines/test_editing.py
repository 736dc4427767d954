import pytest

from servekit.errors import LoadError
from servekit.kernels import KernelError
from servekit.pipelines import Built, Loaded, Source, Surroundings, is_edited, load_or_keep, planned, read
from servekit.pipelines.editing import digest, digests, files
from servekit.plan import PIPELINE_FILE_NAME
from tests.unit.pipelines import samples

GOOD = "after: [{use: scores.softmax}]"
BETTER = "after: [{use: scores.sigmoid}]"
CITIES = "inputs: {x: string}\nbefore: [{use: lookup, with: {file: cities.txt}}]"
CITY = samples.model("own", [samples.tensor("x", "INT64", -1, 1)], [samples.tensor("y", "FP32", -1, 3)])


@pytest.fixture
def load():
    """Loads or keeps an edit; nothing is compiled or served, as each has tests of its own, which take longer."""

    def build(text, origin):
        contract = CITY if b"lookup" in text else samples.SCORER
        plan = planned(read(text, origin), Surroundings("own", {"own": contract}))
        if b"argmax" in text:
            raise KernelError("kernel 'argmax' does not compile")
        return Built(plan, serve=lambda: None)

    return lambda old, path: load_or_keep(old, source_of(path), build)


def source_of(path):
    return Source(path.parent, path.name)


def steps(loaded):
    return [call.step for call in loaded.plan.batch]


def test_a_good_edit_takes_the_place_of_the_old_one(folder, load):
    path = folder(PIPELINE_FILE_NAME, GOOD) / PIPELINE_FILE_NAME
    first = load(None, path)
    assert not is_edited(source_of(path), first)
    path.write_text(BETTER)
    assert is_edited(source_of(path), first)
    second = load(first, path)
    assert (steps(second)[1], second.reason) == ("after step 1 (scores.sigmoid)", "")
    assert not is_edited(source_of(path), second)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("after: [{use: scores.softmx}]", "pipeline of 'own': after step 1 (scores.softmx): unknown; did you mean"),
        ("after: [{use: scores.argmax}]", "kernel 'argmax' does not compile"),
        ("aftr: []", "model.yaml: unknown key 'aftr'; did you mean 'after'?"),
        ("after: [", "model.yaml:2: did not find expected node content"),
        ("\x00", "model.yaml: not YAML; correct it"),
    ],
)
def test_a_broken_edit_keeps_the_old_one_and_says_why_once(folder, load, broken, reason):
    path = folder(PIPELINE_FILE_NAME, GOOD) / PIPELINE_FILE_NAME
    good = load(None, path)
    path.write_text(broken)
    kept = load(good, path)
    assert kept.plan is good.plan
    assert kept.reason.startswith(reason)
    assert not is_edited(source_of(path), kept)
    path.write_text(GOOD)
    assert load(kept, path).reason == ""


def test_a_file_that_is_gone_keeps_the_old_one(folder, load):
    path = folder(PIPELINE_FILE_NAME, GOOD) / PIPELINE_FILE_NAME
    good = load(None, path)
    path.unlink()
    kept = load(good, path)
    assert (kept.plan, kept.reason) == (good.plan, "model.yaml: no such file or directory; put it back")


def test_a_first_load_that_is_broken_leaves_nothing_to_serve(folder, load):
    loaded = load(None, folder(PIPELINE_FILE_NAME, "aftr: []") / PIPELINE_FILE_NAME)
    assert loaded.plan is None
    assert loaded.reason


def test_files_that_stages_read_are_part_of_it(folder, load):
    path = folder(PIPELINE_FILE_NAME, CITIES) / PIPELINE_FILE_NAME
    folder("cities.txt", "lima")
    loaded = load(None, path)
    assert list(loaded.files) == ["cities.txt"]
    folder("cities.txt", "oslo")
    assert is_edited(source_of(path), loaded)
    folder("cities.txt", "lima")
    assert not is_edited(source_of(path), loaded)


def test_a_file_that_was_missing_is_looked_for_again(folder):
    path = folder(PIPELINE_FILE_NAME, CITIES) / PIPELINE_FILE_NAME
    old = Loaded(samples.plan(GOOD, samples.SCORER), "", {})

    def serve():
        raise LoadError("cities.txt is missing")

    def build(text, origin):
        return Built(planned(read(text, origin), Surroundings("own", {"own": CITY})), serve)

    kept = load_or_keep(old, source_of(path), build)
    assert (kept.plan, kept.reason) == (old.plan, "cities.txt is missing")
    assert not is_edited(source_of(path), kept)
    folder("cities.txt", "lima")
    assert is_edited(source_of(path), kept)


def test_a_tokenizer_has_a_file_without_being_told():
    steps = "inputs: {text: string}\nbefore: [{use: tokenize}]\nmodel: {shapes: {last_hidden_state: [length, 384]}}"
    assert files(samples.plan(steps, samples.ENCODER)) == ("tokenizer.json",)


def test_what_never_ends_is_not_read(tmp_path):
    assert digests(tmp_path, ["/dev/zero"]) == {"/dev/zero": ""}


def test_code_beside_the_file_is_part_of_it(folder):
    source = source_of(folder(PIPELINE_FILE_NAME, GOOD) / PIPELINE_FILE_NAME)
    before = digest(source)
    folder("kernels.py", "a = 1")
    changed = digest(source)
    assert changed != before
    folder("notes.txt", "a = 1")
    assert digest(source) == changed
