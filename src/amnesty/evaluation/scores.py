"""What a model still knows of the forget set, what it kept, and how far it is from a retrained one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import numpy as np
from torch import Tensor, nn

from amnesty.errors import InvalidInputError, MissingReferenceError, ModelError, UnknownNameError
from amnesty.evaluation.membership import auc, margins, matched, membership_advantage
from amnesty.seeds import derive
from amnesty.tasks import Classification, Predictions

GAP_PARTS = ("forget_accuracy", "retain_accuracy", "holdout_accuracy", "membership_auc")
"""What `average_gap` averages over."""


class Scores(Mapping[str, float]):
    """Named numbers, fractions from 0 to 1 unless said otherwise. A measure that could not be taken is absent.

    - ``forget_accuracy``, ``retain_accuracy``: accuracy on these training examples, under the labels they had.
    - ``unlearning_accuracy``: ``1 - forget_accuracy``.
    - ``holdout_accuracy``: on unseen examples of the classes that are not forgotten altogether.
    - ``holdout_forgotten_accuracy``: on unseen examples of the classes that are.
    - ``membership_auc``: chance that a forgotten example has a larger margin than an unseen one of its class;
      0.5 is ideal, above: still remembered, below: over-forgotten.
    - ``membership_advantage``: see `amnesty.evaluation.membership_advantage`; from -1 to 1, 0 is ideal.
    - ``seconds``: what unlearning took, where it was told.
    - ``average_gap``: mean distance to the reference over `GAP_PARTS`; present when one was given.

    They cannot be changed, and equal any mapping with the same numbers.

    Example:
        >>> scores = Scores({"forget_accuracy": 0.25, "unlearning_accuracy": 0.75})
        >>> scores["forget_accuracy"], scores.get("membership_auc"), dict(scores) == scores
        (0.25, None, True)
        >>> scores["average_gap"]
        Traceback (most recent call last):
          ...
        amnesty.errors.MissingReferenceError: `average_gap` compares with a retrained model; pass `reference=` to ...
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = {name: float(value) for name, value in values.items()}

    def __getitem__(self, name: str) -> float:
        if name in self._values:
            return self._values[name]
        if name == "average_gap":
            raise MissingReferenceError(
                "`average_gap` compares with a retrained model; pass `reference=` to `evaluate`."
            )
        raise UnknownNameError("measure", name, self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Scores({self._values})"


def evaluate(
    task: Classification,
    model: nn.Module,
    reference: nn.Module | Mapping[str, float] | None = None,
    *,
    seconds: float | None = None,
    seed: int = 0,
) -> Scores:
    """Score a model on a task; see `Scores`.

    Models run in evaluation mode, float32, on their own device, over data in its own order; neither they nor
    the caller's random generators change.

    Args:
        task: what was to be forgotten and kept.
        model: to be scored: unlearned, original or retrained.
        reference: the model retrained without the forget set, or its scores.
        seconds: what unlearning took, such as `Outcome.seconds`, to stand among the scores.
        seed: of the draws of the membership test.

    Raises:
        ModelError: the model cannot take the task's inputs, tells other classes apart, or its logits are not
            finite.
        DataError, SplitError: as `Classification.check`.
    """
    task.check_model(model)
    found = {part: task.predict(model, part) for part in task.parts if part != "validation"}
    for part, predictions in found.items():
        if not predictions.logits.isfinite().all():
            raise ModelError(f"The model's logits on the {part} set are not finite: it cannot be scored.")
    forgotten = task.forgotten_classes if "retain" in task.parts else ()
    values = _accuracies(found, forgotten) | _membership(found, seed)
    if reference is not None:
        scores = reference if isinstance(reference, Mapping) else evaluate(task, reference, seed=seed)
        values["average_gap"] = average_gap(values, scores)
    if seconds is not None:
        values["seconds"] = seconds
    return Scores(values)


def average_gap(scores: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return the mean of ``|scores - reference|`` over those of `GAP_PARTS` that both have; 0 is ideal.

    Like the average gap of Fan et al., SalUn, ICLR 2024, with a membership AUC, which has a sign, in place
    of their attack's accuracy. Two retrained models differ too: print that floor beside it.

    Raises:
        MissingReferenceError: they share none of them.
    """
    shared = [name for name in GAP_PARTS if name in scores and name in reference]
    if not shared:
        raise MissingReferenceError(f"The scores and the reference share none of {', '.join(GAP_PARTS)}.")
    return float(np.mean([abs(scores[name] - reference[name]) for name in shared]))


def _accuracies(found: Mapping[str, Predictions], forgotten: tuple[int, ...]) -> dict[str, float]:
    values = {f"{part}_accuracy": _accuracy(found[part]) for part in ("forget", "retain") if part in found}
    values["unlearning_accuracy"] = 1 - values["forget_accuracy"]
    if "holdout" in found:
        gone = np.isin(found["holdout"].labels.numpy(), forgotten)
        if (~gone).any():
            values["holdout_accuracy"] = _accuracy(found["holdout"], ~gone)
        if gone.any():
            values["holdout_forgotten_accuracy"] = _accuracy(found["holdout"], gone)
    return values


def _accuracy(predictions: Predictions, where: np.ndarray | None = None) -> float:
    right: Tensor = predictions.logits.argmax(dim=1) == predictions.labels
    return float(right.numpy()[slice(None) if where is None else where].mean())


def _membership(found: Mapping[str, Predictions], seed: int) -> dict[str, float]:
    unseen = found.get("nonmembers", found.get("holdout"))
    if unseen is None:
        return {}
    forget, held = ((margins(p.logits, p.labels), p.labels.numpy()) for p in (found["forget"], unseen))
    random = np.random.default_rng(derive(seed, "membership auc"))
    like = matched(forget[1], held[1], random)
    if len(like) == 0:
        return {}  # no unseen example of a forgotten class: nothing to compare with
    values = {"membership_auc": auc(forget[0][np.isin(forget[1], held[1])], held[0][like])}
    if "retain" not in found:
        return values
    retain = margins(found["retain"].logits, found["retain"].labels), found["retain"].labels.numpy()
    with suppress(InvalidInputError):  # too few unseen examples to fit a threshold on
        values["membership_advantage"] = membership_advantage(forget, retain, held, seed)
    return values
