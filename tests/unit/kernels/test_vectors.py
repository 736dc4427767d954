import numpy as np
from sklearn.preprocessing import normalize

from servekit.kernels import vectors

TOKENS = np.random.default_rng(3).standard_normal((4, 9, 16)).astype(np.float32)


def test_mean_pool_leaves_out_padding():
    mask = (np.arange(9)[None] < np.array([[9], [4], [1], [0]])).astype(np.int64)
    ours = vectors.mean_pool.run_compiled(tokens=TOKENS, mask=mask).outputs["pooled"]
    for row, length in enumerate((9, 4, 1)):
        np.testing.assert_allclose(ours[row], TOKENS[row, :length].mean(axis=0), rtol=1e-4, atol=1e-6)
    assert not ours[3].any()


def test_what_is_masked_does_not_matter_even_if_it_is_not_a_number():
    tokens, mask = TOKENS.copy(), np.ones((4, 9), np.int64)
    mask[:, 5:] = 0
    tokens[:, 5:] = np.nan
    ours = vectors.mean_pool.run_compiled(tokens=tokens, mask=mask).outputs["pooled"]
    np.testing.assert_allclose(ours, TOKENS[:, :5].mean(axis=1), rtol=1e-4, atol=1e-6)


def test_cls_pool_is_the_first_token():
    assert (vectors.cls_pool.run_compiled(tokens=TOKENS).outputs["pooled"] == TOKENS[:, 0]).all()
    assert vectors.cls_pool.run_compiled(tokens=TOKENS[:, :0]).faults.tolist() == [1] * 4


def test_l2_normalise_is_scikit_learn_s():
    given = np.concatenate([TOKENS[:, 0], np.zeros((1, 16), np.float32), np.full((1, 16), 1e30, np.float32)])
    ours = vectors.l2_normalise.run_compiled(vectors=given).outputs["unit"]
    np.testing.assert_allclose(ours, normalize(given.astype(np.float64)), rtol=1e-5, atol=1e-7)
