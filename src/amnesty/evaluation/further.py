"""Measures on request, which stored answers cannot tell: published protocols, relearning, untrained networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from amnesty.errors import InvalidInputError, NonFiniteError
from amnesty.evaluation.anamnesis import Relearning, relearning
from amnesty.evaluation.compat import indiscernibility, logistic_loss_compat, svc_compat, svc_privacy_compat
from amnesty.evaluation.zrf import random_teachers, zero_retrain_forgetting
from amnesty.seeds import derive
from amnesty.tasks import Classification, Predictions, Source
from amnesty.tasks.labelled import predict

SEEDS = 5
"""Relearnings of each model, on either side."""

TEACHERS = 5


@dataclass(frozen=True)
class Further:
    """What further measures gave, and why some could not be taken: with too few examples, say.

    One that cannot be taken is no reason to lose the others, which may have taken minutes.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def take(self, key: str, measure: Callable[[], float]) -> None:
        """Take one measure, or keep the reason why not."""
        try:
            self.numbers[key] = measure()
        except InvalidInputError as error:
            self.absent[key] = str(error)


def published(found: Further, said: Mapping[str, Predictions], forgotten: Sequence[int] = (), seed: int = 0) -> None:
    """Take the protocols of published tables; see `amnesty.evaluation.compat`.

    As there, classes that are forgotten altogether are left out of the test set.
    """
    keys = [f"svc_{name}_compat" for name in _FEATURES]
    if "holdout" not in said or "retain" not in said:
        reason = (
            "the published protocols compare retained with test examples; the task lacks a retain or holdout set."
        )
        others = ("svc_privacy_confidence_compat", "logistic_loss_compat", "indiscernibility")
        found.absent.update(dict.fromkeys([*keys, *others], reason))
        return
    forget, retain, held = (said[part] for part in ("forget", "retain", "holdout"))
    kept = ~torch.isin(held.labels, torch.tensor(list(forgotten), dtype=torch.int64))
    test = Predictions(held.logits[kept], held.labels[kept])
    for key, name in zip(keys, _FEATURES, strict=True):
        found.take(key, lambda name=name: svc_compat(retain, test, forget, name))  # type: ignore[misc]
    found.take("svc_privacy_confidence_compat", lambda: svc_privacy_compat(retain, test))
    found.take("logistic_loss_compat", lambda: logistic_loss_compat(forget, test, seed=seed))
    found.take(
        "indiscernibility",
        lambda: indiscernibility(logistic_loss_compat(forget, test, variant="deepunlearn", seed=seed)),
    )


_FEATURES = ("confidence", "correctness", "entropy")


def relearned(
    found: Further,
    model: nn.Module,
    original: nn.Module,
    forget: Source,
    control: Source,
    retain: Source | None,
    seed: int,
) -> None:
    """Take the relearning ratio with its interval, its p-value and how many runs met the cap; see `relearning`."""
    try:
        run = relearning(model, forget, control, retain, original=original, seeds=SEEDS, seed=seed)
    except (InvalidInputError, NonFiniteError) as error:
        found.absent["relearning_ratio"] = str(error)
        return
    found.numbers["relearning_p"] = run.p_value
    found.numbers["relearning_capped"] = run.forget_censored / len(run.forget)
    found.numbers["relearning_control_capped"] = run.control_censored / len(run.control)
    if run.ratio is None:
        found.absent["relearning_ratio"] = run.reason
        return
    found.numbers["relearning_ratio"] = run.ratio
    found.numbers.update(_ends(run))


def _ends(run: Relearning) -> dict[str, float]:
    """Return the ends of the interval that are known: a side that mostly met the cap would have needed more steps."""
    ends = {"relearning_ratio_low": run.low, "relearning_ratio_high": run.high}
    if 2 * run.control_censored > len(run.control):
        del ends["relearning_ratio_low"]
    if 2 * run.forget_censored > len(run.forget):
        del ends["relearning_ratio_high"]
    return {name: end for name, end in ends.items() if end is not None and math.isfinite(end)}


def like_untrained(found: Further, task: Classification, logits: Tensor, forget: Source, seed: int) -> None:
    """Take how alike the answers on ``forget``, shape [n, C], are to those of untrained networks."""

    def measure() -> float:
        teachers = random_teachers(task.model, count=TEACHERS, seed=derive(seed, "teachers"))
        return zero_retrain_forgetting(logits, [predict(teacher, forget).logits for teacher in teachers])

    found.take("zero_retrain_forgetting", measure)
