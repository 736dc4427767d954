import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit.config import load
from servekit.config.loading import flag_name
from servekit.config.schema import SECTIONS
from servekit.errors import ConfigError


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "servekit.yaml"
        path.write_text(text)
        return path

    return write


def refused(**sources):
    with pytest.raises(ConfigError) as caught:
        load(**{"environment": {}} | sources)
    return str(caught.value)


def test_flags_win_over_the_environment_and_that_over_the_file_key_by_key(written):
    file = written("limits: {batch_rows_max: 1, headers_max: 1, drain_ms_max: 9000}\n")
    environment = {"SERVEKIT__LIMITS__BATCH_ROWS_MAX": "2", "SERVEKIT__LIMITS__HEADERS_MAX": "2"}
    config = load(file, environment, {("limits", "batch_rows_max"): "3"})
    assert (config.limits.batch_rows_max, config.limits.headers_max, config.limits.drain_ms_max) == (3, 2, 9000)


def test_bytes_carry_units_in_every_source(written):
    config = load(
        written("limits: {batch_bytes_max: 1MiB}"),
        {"SERVEKIT__LIMITS__HEADER_BYTES_MAX": "8 KiB"},
        {("limits", "request_body_bytes_max"): "1.5GiB"},
    )
    limits = config.limits
    assert (limits.batch_bytes_max, limits.header_bytes_max, limits.request_body_bytes_max) == (2**20, 2**13, 3 * 2**29)


def test_names_with_single_underscores_are_not_ours():
    assert load(environment={"SERVEKIT_PORT": "tcp://10.0.0.1:8000", "SERVEKIT_LIMITS_NONE": "1"}) == load(
        environment={}
    )


def test_an_empty_file_changes_nothing(written):
    assert load(written(""), {}) == load(environment={})
    assert load(written("limits:\nmodels: []\n"), {}) == load(environment={})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("limit: {}", "unknown section 'limit' in {file}; did you mean 'limits'?"),
        (
            "limits: {queue_request_max: 1}",
            "unknown key 'limits.queue_request_max' in {file}; did you mean 'queue_requests_max'?",
        ),
        ("log: {colour: red}", "unknown key 'log.colour' in {file}; known here: format, level, access_sample"),
        ("limits: [1]", "{file}: limits: a table of keys is allowed, found [1]"),
        ("[1]", "{file}: a table of sections is allowed, found list"),
        ("limits: {headers_max: 0}", "{file}: limits.headers_max: found 0, 1 or more is allowed"),
        ("limits: {headers_max: true}", "{file}: limits.headers_max: found True, a whole number is allowed"),
        ("data: {http_port: 65536}", "{file}: data.http_port: found 65536, at most 65535 is allowed"),
        ("log: {format: xml}", "{file}: log.format: found 'xml', 'text' or 'json' is allowed"),
        ("a: b: c", "{file}:1: mapping values are not allowed in this context; correct it"),
        ("limits:\n  headers_max: 1\n  headers_max: 2\n", "{file}:3: key 'headers_max' stands twice; correct it"),
        ("models: [{name: a, nme: b}]", "unknown key 'models[0].nme' in {file}; did you mean 'name'?"),
        ("models: [{links: true}]", "models.0 in {file}: neither name nor path is set; say which model is meant"),
        ("models: [{name: a, batch_rows_max: 0}]", "models[0].batch_rows_max in {file}: found 0, 1 or more is allowed"),
    ],
)
def test_a_wrong_file_is_told_with_its_place_and_the_next_step(written, text, told):
    file = written(text)
    assert refused(file=file) == told.replace("{file}", str(file))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SERVEKIT__LIMITS__HEADERS_MAXX", "1", "did you mean 'headers_max'?"),
        ("SERVEKIT__LIMIT__HEADERS_MAX", "1", "did you mean 'limits'?"),
        ("SERVEKIT__LIMITS", "1", "unknown key 'limits.' in environment SERVEKIT__LIMITS"),
        ("SERVEKIT__LIMITS__HEADERS_MAX", "many", "found 'many', a whole number is allowed"),
        ("SERVEKIT__LOG__ACCESS_SAMPLE", "1.5", "found '1.5', at most 1.0 is allowed"),
        ("SERVEKIT__MODELS", "tiny", "a JSON list is allowed"),
    ],
)
def test_a_wrong_environment_names_the_variable(name, value, told):
    text = refused(environment={name: value})
    assert name in text
    assert told in text


def test_a_wrong_flag_names_the_flag():
    assert refused(flags={("data", "http_port"): "x"}) == "flag --http-port: found 'x', a whole number is allowed"
    assert flag_name(("management", "port")) == "--management-port"
    assert flag_name(("log", "format")) == "--log-format"


def test_every_fault_is_told_at_once():
    told = refused(flags={("limits", "headers_max"): "0", ("execution", "device"): "gpu"})
    assert len(told.splitlines()) == 2


def test_a_missing_file_says_so(tmp_path):
    assert "no such file or directory; check --config" in refused(file=tmp_path / "none.yaml")


def test_keys_that_bound_each_other_agree():
    assert "less than drain_ms_max" in refused(flags={("limits", "drain_ms_max"): "5000"})
    assert "every listener is off" in refused(flags={("data", "http_port"): "off", ("data", "grpc_port"): "off"})
    assert "use port for one listener" in refused(flags={("data", "http_port"): "8001"})
    assert "shorter path" in refused(flags={("data", "uds"): "/" + "x" * 107})


def test_a_socket_alone_is_enough():
    flags = {("data", "http_port"): "off", ("data", "grpc_port"): "off", ("data", "uds"): "/run/servekit.sock"}
    assert load(environment={}, flags=flags).data.uds == "/run/servekit.sock"


def test_paths_in_a_file_are_beside_it(written):
    file = written("models: [{path: tiny.onnx}, {path: /models/mlp.onnx}]")
    assert [model.path for model in load(file, {}).models] == [str(file.parent / "tiny.onnx"), "/models/mlp.onnx"]


def test_zero_is_refused_except_where_it_means_something():
    limits = SECTIONS["limits"]
    for key, about in limits.model_fields.items():
        may_be_zero = key in {"connection_age_ms_max", "latency_target_ms", "drain_delay_ms"}
        environment = {f"SERVEKIT__LIMITS__{key.upper()}": "0"}
        if may_be_zero:
            assert getattr(load(environment=environment).limits, key) == 0
        else:
            assert "0" in refused(environment=environment), about


def test_a_configuration_cannot_be_changed():
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        load(environment={}).limits.headers_max = 5


@given(st.text(max_size=40).filter(lambda text: "\0" not in text))
def test_no_value_gets_past_as_a_surprise(text):
    told = ""
    try:
        assert load(environment={"SERVEKIT__LIMITS__HEADERS_MAX": text}).limits.headers_max >= 1
    except ConfigError as error:
        told = str(error)
    assert told == "" or "SERVEKIT__LIMITS__HEADERS_MAX" in told


@given(st.binary(max_size=200))
def test_no_file_gets_past_as_a_surprise(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text)
    told = ""
    try:
        load(file, {})
    except ConfigError as error:
        told = str(error)
    assert told == "" or str(file) in told
