"""Every measure tried on models whose place is known: never unlearned, retrained, retrained again, destroyed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from amnesty.errors import MissingReferenceError
from amnesty.evaluation.evaluator import Evaluator
from amnesty.evaluation.measure import Measure
from amnesty.evaluation.measures import MEASURES
from amnesty.evaluation.scores import Scores
from amnesty.evaluation.zrf import random_teachers

MODELS = ("original", "retrained", "retrained again", "destroyed")


@dataclass(frozen=True)
class Checked:
    """What one measure says of the four models.

    Attributes:
        measure: which.
        values: by model, of `MODELS`.
        floor: ``|retrained again - retrained|``: a difference of this size is noise.
        resolution: whether original and retrained are further apart than that. Without it a good value shows nothing.
        fooled_by: which of original and destroyed, the measure read alone, do as well as the retrained model.
    """

    measure: Measure
    values: Mapping[str, float]
    floor: float
    resolution: bool
    fooled_by: tuple[str, ...]

    @property
    def distances(self) -> dict[str, float]:
        """How far each model is from the retrained one, on either side: what may be ranked in any case."""
        return {name: abs(value - self.values["retrained"]) for name, value in self.values.items()}

    @property
    def criterion(self) -> bool:
        """Whether methods may be ranked by the measure itself, as far as these four models can tell."""
        return self.resolution and not self.fooled_by and not self.measure.blind


def self_test(evaluator: Evaluator, destroyed: nn.Module | None = None) -> tuple[Checked, ...]:
    """Show for every measure that could be taken whether it finds the retrained model best, and by how much.

    Args:
        evaluator: with a reference and a second one. Its task's model is the one that was never unlearned.
        destroyed: by default an untrained network of the same architecture.

    Raises:
        MissingReferenceError: the evaluator lacks a reference or a second one.
        ModelError: the architecture cannot be initialised afresh; then pass ``destroyed``.
    """
    reference, second = evaluator.reference, evaluator.second_reference
    if reference is None or second is None:
        raise MissingReferenceError(
            "The self-test needs a retrained model and a second one: pass `reference=` and `second_reference=`."
        )
    if destroyed is None:
        (untrained,) = random_teachers(evaluator.task.model, count=1, seed=evaluator.seed)
        destroyed = untrained.requires_grad_(True)  # relearning will train it
    found = dict(zip(MODELS, (evaluator.original, reference, second, evaluator(destroyed)), strict=True))
    return tuple(
        _checked(measure, found)
        for key, measure in MEASURES.items()
        if all(key in scores for scores in found.values())
    )


def _checked(measure: Measure, found: Mapping[str, Scores]) -> Checked:
    values = {name: scores[measure.key] for name, scores in found.items()}
    target = values["retrained"]
    floor = abs(values["retrained again"] - target)
    good = {name: measure.goodness(value, target) for name, value in values.items()}
    noise = abs(good["retrained again"] - good["retrained"])
    fooled = tuple(name for name in ("original", "destroyed") if good[name] >= good["retrained"] - noise)
    return Checked(measure, values, floor, abs(values["original"] - target) > floor, fooled)
