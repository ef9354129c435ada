"""Measures that plant something, train again or ask untrained networks."""

from __future__ import annotations

from functools import partial

from amnesty.evaluation.measure import DESTROYED, Measure

_relearning = partial(Measure, needs="relearning", compared=False)

TRIALS: tuple[Measure, ...] = (
    Measure(
        "canary_accuracy",
        "Canaries repeated",
        "Canaries",
        "Share of the planted wrong labels that the model still gives.",
        aim="lower",
        needs="canaries",
        blind="the lowest is reached by a destroyed model",
    ),
    Measure(
        "canary_membership_auc",
        "Membership AUC of canaries",
        "Canary AUC",
        "The membership attack on planted wrong labels, against unseen examples with wrong labels drawn alike.",
        aim="chance",
        needs="canaries",
        blind=DESTROYED,
    ),
    _relearning(
        "relearning_ratio",
        "Relearning ratio",
        "Relearn",
        "Steps to relearn the forget set over the steps to learn as many never-seen examples. 1 is ideal; below: "
        "something was left.",
        aim="chance",
        high=float("inf"),
        unit="ratio",
        blind=DESTROYED,
        chance=1.0,
    ),
    _relearning(
        "relearning_p",
        "p-value of relearning",
        "Relearn p",
        "Chance of so few steps if the forget set is relearnt no faster than never-seen examples are learnt.",
        aim="higher",
        blind=DESTROYED,
    ),
    *(
        _relearning(
            key,
            title,
            title,
            f"Share of the runs in which {what} within the cap of steps. Above one half, the ratio is only a bound.",
            aim="lower",
            blind="it speaks of the test, not of the model",
        )
        for key, title, what in (
            ("relearning_capped", "Relearning not done", "the forget set was not relearnt"),
            ("relearning_control_capped", "Learning not done", "the never-seen examples were not learnt"),
        )
    ),
    Measure(
        "zero_retrain_forgetting",
        "Zero retrain forgetting",
        "ZRF",
        "How alike the answers on the forget set are to those of untrained networks: one minus the mean "
        "Jensen-Shannon divergence.",
        aim="higher",
        needs="teachers",
        blind="the highest is reached by an untrained model",
    ),
)
