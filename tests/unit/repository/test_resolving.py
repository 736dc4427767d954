import pytest

from servekit.config import Config
from servekit.errors import ConfigError, RepositoryError
from servekit.repository import resolve
from servekit.repository.layout import VERSION_MAX


@pytest.fixture
def tree(tmp_path):
    """Makes files, and links where the text starts with `->`."""

    def make(*names, **links):
        for name in names:
            path = tmp_path / name
            if name.endswith("/"):
                path.mkdir(parents=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"model")
        for name, target in links.items():
            (tmp_path / name).symlink_to(target)
        return tmp_path

    return make


def found(*paths, model_name=None, models=()):
    repository = resolve(Config(models=models), paths, model_name)
    return {model.name: (model.version, str(model.path)) for model in repository.models}


def names(*paths, **settings):
    return {name: version for name, (version, _) in found(*paths, **settings).items()}


def refused(*paths, **settings):
    with pytest.raises(ConfigError) as caught:
        found(*paths, **settings)
    return str(caught.value)


def test_a_file_is_version_1_of_the_model_of_its_name(tree):
    path = tree("tiny.onnx") / "tiny.onnx"
    assert found(path) == {"tiny": ("1", str(path))}


def test_a_folder_with_a_model_is_that_model(tree):
    folder = tree("models/model.onnx", "models/labels.txt") / "models"
    assert found(folder) == {"models": ("1", str(folder / "model.onnx"))}
    assert found(folder, model_name="digits") == {"digits": ("1", str(folder / "model.onnx"))}


def test_a_folder_of_versions_is_one_model_and_serves_the_highest(tree):
    folder = tree("tiny/2/model.onnx", "tiny/10/model.onnx") / "tiny"
    assert found(folder) == {"tiny": ("10", str(folder / "10" / "model.onnx"))}


def test_a_folder_of_models_may_be_mixed(tree):
    root = tree("a.onnx", "b/model.onnx", "c/1/model.onnx", "c/3/model.onnx", "notes.txt", ".hidden.onnx", "empty/")
    assert names(root) == {"a": "1", "b": "1", "c": "3"}


def test_a_model_beside_others_is_one_of_them(tree):
    assert names(tree("model.onnx", "b.onnx")) == {"model": "1", "b": "1"}
    assert names(tree("model.onnx", "c/model.onnx")) == {"model": "1", "b": "1", "c": "1"}


def test_several_paths_are_served_together(tree):
    root = tree("a/x.onnx", "b/y.onnx")
    assert names(root / "a", root / "b" / "y.onnx") == {"x": "1", "y": "1"}


def test_without_a_path_the_demo_is_served():
    assert names() == {"demo": "1"}


@pytest.mark.parametrize("version", ["0", "01", "-1", str(VERSION_MAX + 1), "9" * 60])
def test_a_version_that_is_none_is_passed_over_with_one_warning(tree, version):
    root = tree("m/1/model.onnx", f"m/{version}/model.onnx")
    repository = resolve(Config(), [root])
    assert [model.version for model in repository.models] == ["1"]
    assert len(repository.warnings) == 1
    assert version[:20] in repository.warnings[0]


def test_the_largest_version_is_one(tree):
    assert names(tree(f"m/{VERSION_MAX}/model.onnx", "m/1/model.onnx")) == {"m": str(VERSION_MAX)}


def test_an_empty_version_is_passed_over(tree):
    repository = resolve(Config(), [tree("m/1/model.onnx", "m/2/")])
    assert [model.version for model in repository.models] == ["1"]
    assert "holds no model.onnx" in repository.warnings[0]


@pytest.mark.parametrize(
    ("files", "path", "told"),
    [
        (["a.onnx"], "b.onnx", "did you mean {root}/a.onnx?"),
        ([], "gone/model.onnx", "{root}/gone is missing too"),
        (["m.pt"], "m.pt", "export it with torch.onnx.export"),
        (["m.pkl"], "m.pkl", "convert it with skl2onnx"),
        (["m.txt"], "m.txt", "the suffix '.txt' found, '.onnx' is allowed"),
        (["empty/"], "empty", "{root}/empty is empty; put a .onnx file in it"),
        (["x/readme.md"], "x", "no .onnx file in {root}/x, found readme.md"),
        (["x/m/net.onnx"], "x", "a model is called model.onnx; rename it or serve {root}/x/m"),
        (["m/0/model.onnx"], "m", "version '0' in {root}/m is passed over"),
        (["m/model.onnx", "m/1/model.onnx"], "m", "keep one of the two"),
        (["r/m/model.onnx", "r/m/1/model.onnx"], "r", "keep one of the two"),
        (["r/a.onnx", "r/a/model.onnx"], "r", "two models are called 'a'"),
        (["r/a b.onnx"], "r", "model name 'a b' found"),
        (["r/" + "n" * 129 + ".onnx"], "r", "at most 128 are allowed"),
        (["r/é.onnx"], "r", "letters, digits"),
    ],
)
def test_what_cannot_be_served_is_told_with_the_next_step(tree, files, path, told):
    root = tree(*files)
    assert told.replace("{root}", str(root)) in refused(root / path)


def test_one_name_is_for_one_model(tree):
    root = tree("a.onnx", "b.onnx")
    assert "--model-name 'm' is for one model, 2 found" in refused(root, model_name="m")
    assert "two models are called 'a'" in refused(root / "a.onnx", root / "a.onnx")
    for bad in ("..", ".", "a/b", ""):
        assert refused(root / "a.onnx", model_name=bad)


def test_links_within_the_folder_are_followed_as_kubernetes_mounts_them(tree):
    root = tree("m/..2024/model.onnx")
    (root / "m" / "..data").symlink_to("..2024")
    (root / "m" / "model.onnx").symlink_to("..data/model.onnx")
    assert names(root / "m") == {"m": "1"}


def test_links_out_of_the_folder_need_the_operators_word(tree):
    root = tree("elsewhere/net.onnx", "m/")
    (root / "m" / "model.onnx").symlink_to(root / "elsewhere" / "net.onnx")
    assert "set links: true" in refused(root / "m")
    assert names(root / "m", models=({"name": "m", "links": True},)) == {"m": "1"}


def test_a_linked_folder_may_be_served_by_its_own_path(tree):
    root = tree("real/model.onnx", link="real")
    assert names(root / "link") == {"real": "1"}


def test_settings_reach_the_model_they_name(tree):
    root = tree("a.onnx", "b.onnx")
    repository = resolve(Config(models=({"name": "b", "batch_rows_max": 3},)), [root])
    assert {model.name: model.settings.batch_rows_max for model in repository.models} == {"a": None, "b": 3}


def test_settings_with_a_path_serve_it_and_a_name_wins_over_them(tree):
    root = tree("x/a.onnx", "x/b.onnx")
    models = (
        {"path": str(root / "x"), "execution": "pool", "batch_rows_max": 2},
        {"name": "b", "batch_rows_max": 3},
    )
    served = {model.name: model.settings for model in resolve(Config(models=models)).models}
    assert {name: (of.execution, of.batch_rows_max) for name, of in served.items()} == {
        "a": ("pool", 2),
        "b": ("pool", 3),
    }


def test_a_path_may_bring_its_name(tree):
    root = tree("a.onnx")
    assert names(models=({"path": str(root / "a.onnx"), "name": "z"},)) == {"z": "1"}


def test_settings_for_no_model_are_refused(tree):
    assert "did you mean 'tiny'?" in refused(tree("tiny.onnx"), models=({"name": "tinny"},))


def test_more_models_than_allowed_are_refused(tree):
    root = tree("a.onnx", "b.onnx", "c.onnx")
    with pytest.raises(RepositoryError, match="3 models found, at most 2 are allowed"):
        resolve(Config(limits={"models_max": 2}), [root])


# Pipelines -----------------------------------------------------------------------------------------------------------


def written(*paths, **settings):
    """Of each model with a pipeline: where its folder is, and what was written."""
    repository = resolve(Config(**settings), list(paths))
    return {
        model.name: (model.pipeline.folder, model.pipeline.table or model.pipeline.text)
        for model in repository.models
        if model.pipeline is not None
    }


def test_a_model_without_a_file_of_its_pipeline_has_none(tree):
    assert written(tree("m/model.onnx")) == {}


@pytest.mark.parametrize("beside", ["m/model.yaml", "m/3/model.yaml"])
def test_a_pipeline_lies_beside_the_model_or_its_versions(tree, beside):
    root = tree("m/3/model.onnx", beside)
    (root / beside).write_text("raw: true")
    assert written(root) == {"m": (str((root / beside).parent), "raw: true")}


def test_the_pipeline_of_a_version_goes_before_that_of_the_model(tree):
    root = tree("m/3/model.onnx", "m/model.yaml", "m/3/model.yaml")
    (root / "m/3/model.yaml").write_text("raw: true")
    assert written(root / "m") == {"m": (str(root / "m" / "3"), "raw: true")}


def test_the_keys_of_the_configuration_win_as_a_whole(tree):
    root = tree("m/model.onnx", "m/model.yaml")
    (root / "m/model.yaml").write_text("after: [{use: scores.softmax}]")
    assert written(root, models=[{"name": "m", "raw": True}]) == {"m": (str(root / "m"), {"raw": True})}


def test_a_pipeline_beside_several_files_belongs_to_none_of_them(tree):
    root = tree("a.onnx", "b.onnx", "model.yaml")
    repository = resolve(Config(), [root])
    assert [model.pipeline for model in repository.models] == [None, None]
    assert "model.yaml is passed over: it belongs to a model.onnx, found a.onnx" in repository.warnings[0]


def test_a_pipeline_that_is_a_link_out_of_the_folder_needs_the_operators_word(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "model.yaml"
    elsewhere.write_text("raw: true")
    root = tree("m/model.onnx")
    (root / "m/model.yaml").symlink_to(elsewhere)
    with pytest.raises(RepositoryError, match="leads out of"):
        resolve(Config(), [root])
    assert written(root, models=[{"name": "m", "links": True}]) == {"m": (str(root / "m"), "raw: true")}


def test_what_is_no_text_reaches_the_one_who_reads_it(tree):
    root = tree("m/model.onnx", "m/model.yaml")
    (root / "m/model.yaml").write_bytes(b"raw: \xff")
    assert written(root)["m"][1].encode(errors="surrogateescape") == b"raw: \xff"


def test_a_pipeline_may_be_written_in_python(tree):
    root = tree("m/model.onnx", "m/pipeline.py")
    (model,) = resolve(Config(), [root]).models
    assert (model.pipeline.folder, model.pipeline.is_code, model.pipeline.text) == (str(root / "m"), True, "")
