import numpy as np
from scipy.special import expit
from scipy.special import softmax as scipy_softmax

from servekit.kernels import scores

SCORES = (np.random.default_rng(2).standard_normal((7, 33)) * 20).astype(np.float32)
ODD = np.array([[1e38, -1e38, 0], [-np.inf, 0, 0], [3e4, 3e4, -3e4]], np.float32)


def ran(kernel, values):
    return kernel.run_compiled(scores=values).outputs


def test_softmax_is_scipy_s():
    for values in (SCORES, ODD):
        ours = ran(scores.softmax, values)["probabilities"]
        np.testing.assert_allclose(ours, scipy_softmax(values.astype(np.float64), axis=1), rtol=2e-5, atol=1e-7)


def test_sigmoid_is_scipy_s():
    for values in (SCORES, ODD):
        np.testing.assert_allclose(ran(scores.sigmoid, values)["probabilities"], expit(values), rtol=1e-5, atol=1e-30)


def test_argmax_is_numpy_s():
    ties = np.array([[1, 3, 3], [0, 0, 0], [-np.inf, -np.inf, -5]], np.float32)
    for values in (SCORES, ties):
        assert ran(scores.argmax, values)["best"].tolist() == values.argmax(axis=1).tolist()


def test_what_is_not_a_number_is_not_chosen_before_a_number():
    values = np.array([[np.nan, -5, np.nan, -4], [np.nan] * 4], np.float32)
    assert ran(scores.argmax, values)["best"].tolist() == [3, 0]
    assert ran(scores.top_k.bind(count=3), values)["indices"].tolist() == [[3, 1, 0], [0, 1, 2]]


def test_top_k_is_a_stable_sort_from_above():
    few = np.round(SCORES / 10)
    order = np.argsort(-few, axis=1, kind="stable")[:, :5]
    ours = ran(scores.top_k, few)
    assert ours["indices"].tolist() == order.tolist()
    assert ours["values"].tolist() == np.take_along_axis(few, order, axis=1).tolist()


def test_fewer_classes_than_wanted_are_refused():
    assert scores.top_k.run_compiled(scores=SCORES[:, :4]).faults.tolist() == [1] * 7
    assert scores.top_k.run_compiled(scores=SCORES[:, :5]).faults.tolist() == [0] * 7


def test_threshold_includes_its_own_value():
    values = np.array([[0.5, 0.49, np.nan, np.inf]], np.float32)
    assert ran(scores.threshold, values)["chosen"].tolist() == [[True, False, False, True]]
