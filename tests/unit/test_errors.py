import pytest

from servekit import _native
from servekit.errors import CATALOGUE, BindError, ConfigError, ExitCode, LoadError, ServekitError, native_errors


def test_the_catalogue_is_the_native_one():
    assert list(CATALOGUE) == _native.refusals()


def test_no_label_stands_twice():
    assert len({refusal.label for refusal in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("native", "translated", "code"),
    [
        (_native.ConfigError, ConfigError, ExitCode.USAGE),
        (_native.BindError, BindError, ExitCode.FAILED),
        (_native.LoadError, LoadError, ExitCode.FAILED),
        (_native.ServekitError, ServekitError, ExitCode.FAILED),
    ],
)
def test_native_errors_become_ours(native, translated, code):
    raised = native("model of 3 bytes")
    raised.label = "model_file"
    with pytest.raises(ServekitError) as caught, native_errors():
        raise raised
    assert type(caught.value) is translated
    assert (str(caught.value), caught.value.label, caught.value.exit_code) == ("model of 3 bytes", "model_file", code)


def test_a_defect_is_not_translated():
    with pytest.raises(KeyError), native_errors():
        raise KeyError("x")
