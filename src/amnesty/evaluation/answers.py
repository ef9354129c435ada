"""What a model says of each example: all that its scores are made of, and all that a run needs to store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor, nn

from amnesty.errors import InvalidInputError, ModelError
from amnesty.evaluation.distance import js_divergence
from amnesty.evaluation.features import features
from amnesty.tasks import Classification, Predictions


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers on one part of the data, in its order; every array of shape [n].

    Attributes:
        label: the label that the example has in the data. predicted: the class that the model gives.
        margin: log-odds of the label, in nats; see `amnesty.evaluation.margins`.
        entropy, modified_entropy: in nats; see `amnesty.evaluation.features`.
        js_to_reference: Jensen-Shannon divergence to the retrained model's answer, in bits, from 0 to 1; ``None``
            where there is no such model.
    """

    label: np.ndarray
    predicted: np.ndarray
    margin: np.ndarray
    entropy: np.ndarray
    modified_entropy: np.ndarray
    js_to_reference: np.ndarray | None = None

    def __post_init__(self) -> None:
        lengths = {f.name: len(values) for f in fields(self) if (values := getattr(self, f.name)) is not None}
        if len(set(lengths.values())) > 1:
            raise InvalidInputError(f"Answers must be equally many of each kind, found {lengths}.")

    @classmethod
    def of(cls, said: Predictions, reference: Tensor | None = None) -> Answers:
        """Make them of logits and labels, and of the retrained model's logits, shape [n, C]."""
        z, y = said.logits, said.labels
        found = features(z, y)
        return cls(
            y.numpy(),
            z.argmax(dim=1).numpy(),
            found["margin"],
            -found["entropy"],
            -found["modified_entropy"],
            None if reference is None else js_divergence(z, reference),
        )

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, chosen: np.ndarray) -> Answers:
        """Return the answers on some of the examples: their indices, or a mask of shape [n]."""
        picked: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen_of: dict[str, Any] = {name: None if v is None else v[chosen] for name, v in picked.items()}
        return Answers(**chosen_of)

    @property
    def correct(self) -> np.ndarray:
        """Whether the label is given, bool."""
        right: np.ndarray = self.predicted == self.label
        return right

    @property
    def cross_entropy(self) -> np.ndarray:
        """In nats: ``log(1 + exp(-margin))``."""
        found: np.ndarray = np.logaddexp(0.0, -self.margin)
        return found

    @property
    def features(self) -> dict[str, np.ndarray]:
        """What population attacks look at, each the higher the more like a member of the training set."""
        return {
            "correctness": self.correct.astype(np.float64),
            "confidence": -self.cross_entropy,
            "entropy": -self.entropy,
            "modified_entropy": -self.modified_entropy,
            "margin": self.margin,
        }


def ask(
    task: Classification, model: nn.Module, reference: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Answers], dict[str, Predictions]]:
    """Return a model's answers, and the predictions they are made of, on every part of a task but validation.

    Args:
        task: whose data is read.
        model: run in evaluation mode, float32, on its own device.
        reference: the retrained model's logits by part.

    Raises:
        ModelError: the model cannot take the task's inputs, tells other classes apart, or its logits are not finite.
        DataError, SplitError: as `Classification.check`.
    """
    task.check_model(model)
    found, predictions = {}, {}
    for part in task.parts:
        if part == "validation":
            continue
        said = task.predict(model, part)
        if not said.logits.isfinite().all():
            raise ModelError(f"The model's logits on the {part} set are not finite: it cannot be scored.")
        found[part] = Answers.of(said, None if reference is None else reference[part])
        predictions[part] = said
    return found, predictions
