"""The classifier of a run as MLflow loads it: this file and the bundle, without a pickle."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from headstart.inference.bundle import Bundle, load_bundle
from headstart.inference.predict import predict_images


class MlflowClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Maps a table with a column `image` of paths to labels and probabilities."""

    bundle: Bundle

    def load_context(self, context: Any) -> None:
        """Opens the bundle."""
        self.bundle = load_bundle(Path(context.artifacts["bundle"]), multilabel=True)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Returns a table with the label and the probability of each class, one row an image."""
        found = predict_images(self.bundle, list(model_input["image"]))
        columns = [{f"p({name})": p for name, p in each.probabilities.items()} for each in found]
        return pd.DataFrame(
            [{"label": each.label, **row} for each, row in zip(found, columns, strict=True)]
        )


mlflow.models.set_model(MlflowClassifier())
