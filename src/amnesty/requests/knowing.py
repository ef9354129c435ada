"""Does this model know this data at all? Asked before anything is forgotten."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.utils.data import Subset

from amnesty.data import dataset_of
from amnesty.errors import ModelError
from amnesty.tasks import Classification
from amnesty.tasks.labelled import predict
from amnesty.tasks.zero_shot import ZeroShot

LEVEL = 1e-3  # at most this often is a model refused that is right more often than by chance
_MOST = 4096  # examples are enough


def check_knows(task: Classification, classes: int | None = None) -> float:
    """Return the accuracy, in [0, 1], on up to 4,096 examples that the model was trained on and keeps.

    Args:
        task: checked here, if it was not.
        classes: how many the model is said to tell apart.

    Raises:
        ModelError: the accuracy is not clearly above what the model's answers would get if they had nothing to do
            with the labels (one-sided binomial test, level 0.001), or the model tells another number of classes
            apart. Where there are too few examples for such a test, nothing is raised.
        DataError, SplitError: see `amnesty.Classification.check`.
    """
    task.check()  # before the model meets the data
    if classes is not None and task.classes != classes:
        raise ModelError(f"The model tells {task.classes} classes apart, but `model.classes` is {classes}.")
    part = dataset_of(task.parts["retain"], "retain")
    rows = np.linspace(0, len(part) - 1, min(_MOST, len(part))).astype(int)  # type: ignore[arg-type]
    found = predict(task.model, Subset(part, rows.tolist()))
    answers, labels = found.logits.argmax(dim=1), found.labels
    right, count = int((answers == labels).sum()), len(labels)
    chance = _chance(answers, labels, task.classes)
    if _tail(count, count, chance) <= LEVEL < _tail(right, count, chance):
        raise ModelError(
            f"The model is right on {right / count:.2%} of {count} examples that it was trained on and is to keep; "
            f"answers that have nothing to do with the labels are right on {chance:.2%}. So it has not learnt this "
            f"data. {_cause(answers, labels, task)}"
        )
    return right / count


def _chance(answers: Tensor, labels: Tensor, classes: int) -> float:
    """Return how often these answers would be right if they were dealt out anew."""
    if labels.min() == labels.max():
        return 1 / classes
    shares = [x.bincount(minlength=classes).double() / len(labels) for x in (answers, labels)]
    return float(shares[0] @ shares[1])


def _tail(right: int, count: int, chance: float) -> float:
    """Return the probability that at least ``right`` of ``count`` are right, each with probability ``chance``."""
    from scipy.special import betainc

    return float(betainc(right, count - right + 1, chance)) if right else 1.0


def _cause(answers: Tensor, labels: Tensor, task: Classification) -> str:
    classes = task.classes
    pairs, counts = np.unique((answers * classes + labels).numpy(), return_counts=True)
    best = np.zeros(classes, dtype=np.int64)  # of the examples that get an answer, those of its commonest label
    np.maximum.at(best, pairs // classes, counts)
    if best.sum() > 0.5 * len(labels) and (best > 0).sum() > 1:
        return (
            "Most of its answers stand for one class each, but for another one than in the data: the classes are in "
            "another order than in training."
        )
    if isinstance(task, ZeroShot):
        return (
            "Likely causes: weights, tokenizer or image processor of another model, or words that it does not know "
            "(`zero_shot.class_names`, `zero_shot.templates`)."
        )
    return (
        "Likely causes: weights of another model or task, or inputs other than in training (`data.inputs`: size, "
        "channels, mean and std)."
    )
