"""Which measures a report shows as columns, and the words for them."""

from __future__ import annotations

from amnesty.evaluation.measure import Measure
from amnesty.evaluation.measures import MEASURES
from amnesty.reports.scenario import Scenario

COLUMNS: tuple[Measure, ...] = tuple(measure for measure in MEASURES.values() if measure.shown)
"""The measures that are columns of every table, in their order."""


def shown(scenario: Scenario) -> tuple[Measure, ...]:
    """The columns for which the scenario has at least one number."""
    return tuple(measure for measure in COLUMNS if scenario.scores.has(measure.key))


def plain(key: str, scenario: Scenario) -> str:
    """What the number counts in this scenario, in words for a first-time reader."""
    things = scenario.things
    one_class = scenario.scores.has("holdout_forgotten_accuracy")
    return {
        "forget_accuracy": "wrong labels repeated" if scenario.wrong_labels else f"forgotten {things} recognised",
        "retain_accuracy": f"kept {things} recognised",
        "holdout_accuracy": f"unseen {things} recognised" + (", other classes" if one_class else ""),
        "holdout_forgotten_accuracy": f"unseen {things} of the forgotten class recognised",
        "membership_auc": "forgotten told from unseen (a coin: 50 %)",
        "membership_advantage": "attack's gain over guessing",
        "average_gap": "mean distance to the target, in points",
        "drawn_forget_accuracy": "images for forgotten prompts that still show it",
        "drawn_retain_accuracy": "images for kept prompts that show what was asked for",
        "seconds": "to unlearn" + (", or to retrain" if scenario.scores.reference is not None else ""),
    }.get(key, "")
