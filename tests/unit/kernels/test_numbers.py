import numpy as np
from sklearn.datasets import load_wine
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, StandardScaler

from servekit.kernels import numbers

WINE = load_wine().data
ROWS = WINE.astype(np.float32)


def ran(kernel, **inputs):
    (output,) = kernel.run_compiled(**inputs).outputs.values()
    return output


def test_standardise_is_scikit_learn_s_scaler():
    scaler = StandardScaler().fit(WINE)
    bound = numbers.standardise.bind(mean=scaler.mean_.tolist(), std=scaler.scale_.tolist())
    np.testing.assert_allclose(ran(bound, values=ROWS), scaler.transform(WINE), rtol=1e-5, atol=1e-5)


def test_standardise_needs_no_deviations():
    bound = numbers.standardise.bind(mean=[1, 2])
    np.testing.assert_allclose(ran(bound, values=ROWS[:, :2]), ROWS[:, :2] - [1, 2], rtol=1e-6)


def test_concat_is_numpy_s():
    for split in (0, 4, ROWS.shape[1]):
        left, right = ROWS[:, :split], ROWS[:, split:]
        np.testing.assert_array_equal(ran(numbers.concat, left=left, right=right), ROWS)


def test_as_floats_is_numpy_s():
    integers = np.array([[0, -1, 2**24 + 1], [2**62, -(2**63), 7]])
    np.testing.assert_array_equal(ran(numbers.as_floats, integers=integers), integers.astype(np.float32))


def test_clip_is_numpy_s():
    values = np.array([[-3, -0.5, 0.25, 7, np.nan, np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(ran(numbers.clip.bind(low=-1), values=values), np.clip(values, -1, 1))


def test_impute_is_scikit_learn_s():
    holed = ROWS.copy()
    holed[np.random.default_rng(1).random(holed.shape) < 0.2] = np.nan
    imputer = SimpleImputer(strategy="median").fit(holed)
    bound = numbers.impute.bind(fill=imputer.statistics_.tolist())
    np.testing.assert_array_equal(ran(bound, values=holed), imputer.transform(holed))


def test_bucketise_is_numpy_s_and_scikit_learn_s():
    edges = (-1.0, 0.0, 0.5, 3.0)
    values = np.array([[-2, -1, -0.5, 0, 0.5, 2.99, 3, 9, np.inf, -np.inf, np.nan]], np.float32)
    np.testing.assert_array_equal(ran(numbers.bucketise.bind(edges=edges), values=values), np.digitize(values, edges))
    binner = KBinsDiscretizer(6, encode="ordinal", strategy="uniform").fit(ROWS[:, :1])
    inner = binner.bin_edges_[0][1:-1].tolist()
    expected = binner.transform(ROWS[:, :1])
    np.testing.assert_array_equal(ran(numbers.bucketise.bind(edges=inner), values=ROWS[:, :1]), expected)


def test_one_hot_is_scikit_learn_s():
    categories = np.array([[0], [3], [2], [0]])
    encoder = OneHotEncoder(categories=[range(5)], sparse_output=False).fit(categories)
    ours = ran(numbers.one_hot.bind(categories=5), category=categories)
    np.testing.assert_array_equal(ours, encoder.transform(categories))


def test_an_unknown_category_is_refused_or_zeros():
    categories = np.array([[-1], [4], [5], [2**40]])
    bound = numbers.one_hot.bind(categories=5)
    assert bound.run_compiled(category=categories).faults.tolist() == [1, 0, 1, 1]
    lenient = bound.bind(refuses_unknown=False).run_compiled(category=categories)
    assert lenient.faults.tolist() == [0, 0, 0, 0]
    assert lenient.outputs["hot"].sum(axis=1).tolist() == [0, 1, 0, 0]


def test_ordinal_is_scikit_learn_s():
    values = np.array([[1.0], [7.0], [2.0], [2.5]])
    known = [1.0, 2.0, 7.0]
    encoder = OrdinalEncoder(categories=[known], handle_unknown="use_encoded_value", unknown_value=-1).fit(values[:3])
    lenient = numbers.ordinal.bind(categories=known, refuses_unknown=False)
    np.testing.assert_array_equal(ran(lenient, value=values), encoder.transform(values))
    strict = numbers.ordinal.bind(categories=known)
    assert strict.run_compiled(value=np.array([[1.0], [2.5], [np.nan]])).faults.tolist() == [0, 1, 1]
