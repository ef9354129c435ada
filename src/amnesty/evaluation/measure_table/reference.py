"""Measures of the distance to a retrained model, and of time."""

from __future__ import annotations

from amnesty.evaluation.measure import Measure

REFERENCE: tuple[Measure, ...] = (
    Measure(
        "js_to_reference",
        "Divergence from the retrained model",
        "JS",
        "Mean Jensen-Shannon divergence, in bits, between the answers of this and of the retrained model on the "
        "forget set.",
        aim="lower",
        needs="reference",
        unit="bits",
        compared=False,
    ),
    Measure(
        "agreement_with_reference",
        "Agreement with the retrained model",
        "Agree",
        "Share of the forgotten examples to which this and the retrained model give the same class.",
        aim="higher",
        needs="reference",
        compared=False,
    ),
    Measure(
        "weight_distance",
        "Distance of the weights",
        "Weights",
        "Length of the difference of the weights to those of the retrained model, over the length of its weights. "
        "Two retrained models are far from each other too.",
        aim="lower",
        needs="reference",
        high=float("inf"),
        unit="ratio",
        compared=False,
        blind="two retrained models are as far apart as any two",
    ),
    Measure(
        "average_gap",
        "Average gap",
        "Gap",
        "Mean distance from the retrained model over forget, retain and holdout accuracy and membership AUC, as far "
        "as they were measured, in points; of an image generator, over what is drawn as asked for forgotten and for "
        "kept prompts. Zero would mean: no different on average. Two retrained models also "
        "differ a little from each other, so very small gaps are noise.",
        aim="lower",
        needs="reference",
        shown=True,
        compared=False,
    ),
    Measure(
        "tug_of_war",
        "Tug-of-war",
        "ToW",
        "Product over forget, retain and holdout accuracy of one minus the distance from the retrained model; 1 is "
        "ideal.",
        aim="higher",
        needs="reference",
        compared=False,
    ),
    Measure(
        "seconds",
        "Time",
        "Time",
        "Wall-clock time. For the original and the retrained model: of training; the retrained one starts from "
        "scratch, without the forgotten data. For the others: of unlearning alone.",
        aim="lower",
        high=float("inf"),
        unit="seconds",
        shown=True,
        compared=False,
        blind="doing nothing is fastest",
    ),
    Measure(
        "runtime_efficiency",
        "Run-time efficiency",
        "RTE",
        "The time of retraining over that of unlearning; higher is faster. Tables of the SalUn family print minutes "
        "instead.",
        aim="higher",
        needs="reference",
        high=float("inf"),
        unit="ratio",
        compared=False,
        blind="doing nothing is fastest",
    ),
)
