"""Small models trained on the flowers that come with scikit-learn, written by the exporters that people use."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FLOWERS = np.array(["setosa", "versicolor", "virginica"])
COLUMNS = 4
TREES = 5


@dataclass(frozen=True)
class Trained:
    """A model, its file, and what it is asked."""

    estimator: Any
    path: Path
    rows: np.ndarray

    @property
    def is_classifier(self) -> bool:
        """Whether it answers labels and probabilities."""
        return hasattr(self.estimator, "predict_proba")

    @property
    def labels(self) -> list[str]:
        """Class labels as metadata tell them."""
        return [str(label) for label in self.estimator.classes_]


Exporter = Callable[[Any], Any]


@cache
def flowers() -> tuple[np.ndarray, np.ndarray]:
    """150 rows of measures, and the number of each one's kind."""
    from sklearn.datasets import load_iris

    data = load_iris()
    return data.data.astype(np.float32), data.target


def write(folder: Path, name: str) -> Trained:
    """Train and export one of `MODELS`."""
    rows, kinds = flowers()
    make, export, target = MODELS[name]
    with warnings.catch_warnings():
        # What the exporters say of their own dependencies is not about us.
        warnings.simplefilter("ignore")
        estimator = make().fit(rows, target(rows, kinds))
        model = export(estimator)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return Trained(estimator, path, rows[::3])


def texts_of(answer: str) -> list[str]:
    """Class labels from the text that metadata hold."""
    return [str(label) for label in json.loads(answer)]


def _by_skl2onnx(estimator: Any) -> Any:
    from skl2onnx import to_onnx

    return to_onnx(estimator, flowers()[0][:1], target_opset=17)


def _by_onnxmltools(kind: str) -> Exporter:
    def export(estimator: Any) -> Any:
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        convert = getattr(onnxmltools, f"convert_{kind}")
        return convert(estimator, initial_types=[("X", FloatTensorType([None, COLUMNS]))], target_opset=15)

    return export


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(TREES, random_state=0)


def _forest_regressor() -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(TREES, random_state=0)


def _lightgbm(kind: str) -> Callable[[], Any]:
    def make() -> Any:
        import lightgbm

        return getattr(lightgbm, f"LGBM{kind}")(n_estimators=TREES, n_jobs=1, verbose=-1)

    return make


def _xgboost(kind: str) -> Callable[[], Any]:
    def make() -> Any:
        import xgboost

        return getattr(xgboost, f"XGB{kind}")(n_estimators=TREES, n_jobs=1)

    return make


def _numbers(rows: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    return kinds


def _names(rows: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    return FLOWERS[kinds]


def _two_kinds(rows: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    return np.where(kinds == 0, -1, 7)


def _length(rows: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    return rows[:, 2]


Target = Callable[[np.ndarray, np.ndarray], np.ndarray]
MODELS: dict[str, tuple[Callable[[], Any], Exporter, Target]] = {
    "logistic_texts": (_logistic, _by_skl2onnx, _names),
    "logistic_numbers": (_logistic, _by_skl2onnx, _numbers),
    "logistic_two": (_logistic, _by_skl2onnx, _two_kinds),
    "forest_texts": (_forest, _by_skl2onnx, _names),
    "forest_regressor": (_forest_regressor, _by_skl2onnx, _length),
    "lightgbm": (_lightgbm("Classifier"), _by_onnxmltools("lightgbm"), _numbers),
    "lightgbm_regressor": (_lightgbm("Regressor"), _by_onnxmltools("lightgbm"), _length),
    "xgboost": (_xgboost("Classifier"), _by_onnxmltools("xgboost"), _numbers),
    "xgboost_regressor": (_xgboost("Regressor"), _by_onnxmltools("xgboost"), _length),
}
"""By name: who learns, who exports, what is learned."""
