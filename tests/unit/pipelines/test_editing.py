import pytest

from servekit.kernels import Kernel, KernelError
from servekit.pipelines import FILE_NAME, Surroundings, built_amid, changed, load_or_keep
from servekit.pipelines.editing import digest
from tests.unit.pipelines import samples

GOOD = "after: [{use: scores.softmax}]"
BETTER = "after: [{use: scores.sigmoid}]"


@pytest.fixture
def build(monkeypatch):
    def compiled(kernel):
        if kernel.name == "argmax":
            raise KernelError("kernel 'argmax' does not compile")

    # Compilers have tests of their own, which take longer.
    monkeypatch.setattr(Kernel, "compiled", compiled)
    return built_amid(Surroundings("own", {"own": samples.SCORER}))


def steps(loaded):
    return [call.step for call in loaded.plan.batch]


def test_a_good_edit_takes_the_place_of_the_old_one(folder, build):
    path = folder(FILE_NAME, GOOD) / FILE_NAME
    first = load_or_keep(None, path, build)
    assert changed(path, first.digest) is None
    path.write_text(BETTER)
    second = load_or_keep(first, path, build)
    assert (steps(second)[1], second.reason) == ("after step 1 (scores.sigmoid)", "")
    assert changed(path, first.digest) == second.digest


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("after: [{use: scores.softmx}]", "pipeline of 'own': after step 1 (scores.softmx): unknown; did you mean"),
        ("after: [{use: scores.argmax}]", "pipeline of 'own': after step 1 (scores.argmax): kernel 'argmax' does not"),
        ("aftr: []", "model.yaml: unknown key 'aftr'; did you mean 'after'?"),
        ("after: [", "model.yaml:2: did not find expected node content"),
        ("\x00", "model.yaml: not YAML; correct it"),
    ],
)
def test_a_broken_edit_keeps_the_old_one_and_says_why_once(folder, build, broken, reason):
    path = folder(FILE_NAME, GOOD) / FILE_NAME
    good = load_or_keep(None, path, build)
    path.write_text(broken)
    kept = load_or_keep(good, path, build)
    assert kept.plan is good.plan
    assert kept.reason.startswith(reason)
    assert changed(path, kept.digest) is None
    path.write_text(GOOD)
    assert load_or_keep(kept, path, build).reason == ""


def test_a_file_that_is_gone_keeps_the_old_one(folder, build):
    path = folder(FILE_NAME, GOOD) / FILE_NAME
    good = load_or_keep(None, path, build)
    path.unlink()
    kept = load_or_keep(good, path, build)
    assert (kept.plan, kept.reason) == (good.plan, "model.yaml: no such file or directory; put it back")


def test_a_first_load_that_is_broken_leaves_nothing_to_serve(folder, build):
    loaded = load_or_keep(None, folder(FILE_NAME, "aftr: []") / FILE_NAME, build)
    assert loaded.plan is None
    assert loaded.reason


def test_code_beside_the_file_is_part_of_it(folder):
    path = folder(FILE_NAME, GOOD) / FILE_NAME
    before = digest(path)
    folder("kernels.py", "a = 1")
    assert changed(path, before) is not None
    folder("notes.txt", "a = 1")
    assert changed(path, digest(path)) is None
