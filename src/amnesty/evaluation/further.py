"""Measures on request, which stored answers cannot tell: published protocols, relearning, untrained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from amnesty.errors import NonFiniteError
from amnesty.evaluation.anamnesis import relearning
from amnesty.evaluation.compat import indiscernibility, logistic_loss_compat, svc_compat, svc_privacy_compat
from amnesty.evaluation.zrf import random_teachers, zero_retrain_forgetting
from amnesty.seeds import derive
from amnesty.tasks import Classification, Predictions, Source
from amnesty.tasks.labelled import predict

SEEDS = 5
"""Relearnings of each model, on either side."""

TEACHERS = 5


def published(said: Mapping[str, Predictions], forgotten: Sequence[int] = (), seed: int = 0) -> dict[str, float]:
    """Return the protocols of published tables, as far as there are the parts; see `amnesty.evaluation.compat`.

    As there, classes that are forgotten altogether are left out of the test set.

    Raises:
        InvalidInputError: fewer retained than test examples.
    """
    if "holdout" not in said or "retain" not in said:
        return {}
    forget, retain, held = (said[part] for part in ("forget", "retain", "holdout"))
    kept = ~torch.isin(held.labels, torch.tensor(list(forgotten), dtype=torch.int64))
    test = Predictions(held.logits[kept], held.labels[kept])
    features = ("confidence", "correctness", "entropy")
    values = {f"svc_{name}_compat": svc_compat(retain, test, forget, name) for name in features}
    values["svc_privacy_confidence_compat"] = svc_privacy_compat(retain, test)
    accuracy = logistic_loss_compat(forget, test, seed=seed)
    return values | {"logistic_loss_compat": accuracy, "indiscernibility": indiscernibility(accuracy)}


def relearned(
    model: nn.Module, original: nn.Module, forget: Source, control: Source, retain: Source | None, seed: int
) -> dict[str, float]:
    """Return the relearning ratio and its interval; see `relearning`.

    Nothing where the ratio has no resolution, or where a model is so damaged that relearning it diverges.
    """
    try:
        found = relearning(model, forget, control, retain, original=original, seeds=SEEDS, seed=seed)
    except NonFiniteError:
        return {}
    if found.ratio is None or found.low is None or found.high is None:
        return {}
    ends = {"relearning_ratio_low": found.low, "relearning_ratio_high": found.high}
    return {"relearning_ratio": found.ratio, **ends}


def like_untrained(task: Classification, logits: Tensor, forget: Source, seed: int) -> dict[str, float]:
    """Return how alike the answers on ``forget``, shape [n, C], are to those of untrained networks."""
    teachers = random_teachers(task.model, count=TEACHERS, seed=derive(seed, "teachers"))
    said = [predict(teacher, forget).logits for teacher in teachers]
    return {"zero_retrain_forgetting": zero_retrain_forgetting(logits, said)}
