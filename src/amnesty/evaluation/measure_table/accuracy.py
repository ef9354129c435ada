"""Measures of what is answered right."""

from __future__ import annotations

from amnesty.evaluation.measure import UNTOUCHED, Measure

ACCURACIES: tuple[Measure, ...] = (
    Measure(
        "forget_accuracy",
        "Forget accuracy",
        "Forget",
        "Share of the forgotten training data for which the model gives the label it was once trained on. Where "
        "the forgotten labels were wrong, this is the share of wrong labels it still repeats.",
        aim="lower",
        shown=True,
        blind="the lowest is reached by a destroyed model",
    ),
    Measure(
        "unlearning_accuracy",
        "Unlearning accuracy",
        "UA",
        "One minus the forget accuracy, as many papers print it; of an image generator, one minus the share of "
        "forgotten prompts that are drawn as asked.",
        aim="higher",
        blind="the highest is reached by a destroyed model",
    ),
    Measure(
        "retain_accuracy",
        "Retain accuracy",
        "Retain",
        "Share of the training data to be kept that the model still labels correctly.",
        aim="higher",
        needs="retain",
        shown=True,
        blind=UNTOUCHED,
    ),
    Measure(
        "holdout_accuracy",
        "Holdout accuracy",
        "Holdout",
        "Share of correct answers on data that no model was trained on: what the model is good for. Where a whole "
        "class is forgotten, this counts the other classes only.",
        aim="higher",
        needs="unseen",
        shown=True,
        blind=UNTOUCHED,
    ),
    Measure(
        "holdout_forgotten_accuracy",
        "Holdout, forgotten class",
        "Class",
        "Share of correct answers on never-seen data of the forgotten class. Near zero when the model has lost the "
        "concept, and not only the particular training data.",
        aim="lower",
        needs="unseen",
        shown=True,
        blind="the lowest is reached by a destroyed model",
    ),
    Measure(
        "holdout_change",
        "Change of holdout accuracy",
        "Change",
        "Holdout accuracy minus that of the original, counted example by example.",
        aim="higher",
        needs="original",
        low=-1.0,
        blind=UNTOUCHED,
    ),
    Measure(
        "holdout_gap",
        "Holdout accuracy against the retrained model",
        "Holdout gap",
        "Holdout accuracy minus that of the retrained model, counted example by example.",
        needs="reference",
        low=-1.0,
        compared=False,
        blind="it says nothing of forgetting",
    ),
)
