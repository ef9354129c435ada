"""The measures a report shows, in the order of its columns, and the words for them."""

from __future__ import annotations

from dataclasses import dataclass

from amnesty.reports.scenario import Scenario


@dataclass(frozen=True)
class Measure:
    """One column: the key in scores.json, its title, its short title for terminals, and what it means."""

    key: str
    title: str
    short: str
    meaning: str
    low: float = 0.0
    high: float = 1.0
    compared: bool = True  # as a difference to the reference, in points


MEASURES = (
    Measure(
        "forget_accuracy",
        "Forget accuracy",
        "Forget",
        "Share of the forgotten training data for which the model gives the label it was once trained on. Where "
        "the forgotten labels were wrong, this is the share of wrong labels it still repeats.",
    ),
    Measure(
        "retain_accuracy",
        "Retain accuracy",
        "Retain",
        "Share of the training data to be kept that the model still labels correctly.",
    ),
    Measure(
        "holdout_accuracy",
        "Holdout accuracy",
        "Holdout",
        "Share of correct answers on data that no model was trained on: what the model is good for. Where a whole "
        "class is forgotten, this counts the other classes only.",
    ),
    Measure(
        "holdout_forgotten_accuracy",
        "Holdout, forgotten class",
        "Class",
        "Share of correct answers on never-seen data of the forgotten class. Near zero when the model has lost the "
        "concept, and not only the particular training data.",
    ),
    Measure(
        "membership_auc",
        "Membership AUC",
        "AUC",
        "An attack on privacy: shown one forgotten and one never-seen example of the same class, how often can a "
        "test on the model's answers point out the forgotten one? 50 % is a coin toss, so nothing can be told. "
        "Above: the data is still remembered. Below: it is over-forgotten, and stands out by being treated worse "
        "than new data.",
    ),
    Measure(
        "membership_advantage",
        "Membership advantage",
        "Adv.",
        "The same attack with one fixed threshold: how much more often it calls forgotten data a member of the "
        "training set than it does never-seen data. Zero is ideal.",
        low=-1.0,
    ),
    Measure(
        "average_gap",
        "Average gap",
        "Gap",
        "Mean distance from the retrained model over forget, retain and holdout accuracy and membership AUC, as far "
        "as they were measured, in points. Zero would mean: no different on average. Two retrained models also "
        "differ a little from each other, so very small gaps are noise.",
        compared=False,
    ),
    Measure(
        "seconds",
        "Time",
        "Time",
        "Wall-clock time. For the original and the retrained model: of training; the retrained one starts from "
        "scratch, without the forgotten data. For the others: of unlearning alone.",
        high=float("inf"),
        compared=False,
    ),
)
KNOWN = {measure.key: measure for measure in MEASURES}


def shown(scenario: Scenario) -> tuple[Measure, ...]:
    """The columns for which the scenario has at least one number."""
    return tuple(measure for measure in MEASURES if scenario.scores.has(measure.key))


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
        "seconds": "to unlearn, or to retrain",
    }.get(key, "")
