"""Measures of whether the forgotten data stands out from data that was never seen."""

from __future__ import annotations

from functools import partial

from amnesty.evaluation.measure import DESTROYED, Measure

attack = partial(Measure, aim="chance", needs="unseen", blind=DESTROYED)
_margins = partial(Measure, needs="unseen", compared=False, blind=DESTROYED)

MEMBERSHIP: tuple[Measure, ...] = (
    attack(
        "membership_auc",
        "Membership AUC",
        "AUC",
        "An attack on privacy: shown one forgotten and one never-seen example of the same class, how often can a "
        "test on the model's answers point out the forgotten one? 50 % is a coin toss, so nothing can be told. "
        "Above: the data is still remembered. Below: it is over-forgotten, and stands out by being treated worse "
        "than new data.",
        shown=True,
    ),
    attack(
        "membership_advantage",
        "Membership advantage",
        "Adv.",
        "The same attack with one fixed threshold, which best tells retained from never-seen data: how much more "
        "often it calls forgotten data a member of the training set than it does never-seen data. Zero is ideal. Not "
        "taken where the forgotten data is unlike the retained, as a poisoned batch is.",
        low=-1.0,
        shown=True,
        chance=0.0,
    ),
    *(
        attack(
            f"membership_auc_{feature}",
            f"Membership AUC by {words}",
            f"AUC {words}",
            f"The membership attack by {words} instead of the margin. 50 % is a coin toss.",
        )
        for feature, words in (
            ("correctness", "correctness"),
            ("entropy", "entropy"),
            ("modified_entropy", "modified entropy"),
        )
    ),
    *(
        attack(
            f"{side}_at_{key}_percent",
            f"{title} at {words} % false alarms",
            f"{short} {words} %",
            f"Share of the forgotten examples that the attack {does} when it may be wrong about {words} % of the "
            f"never-seen ones. The ideal is {words} %.",
            chance=float(words) / 100,
        )
        for side, title, short, does in (
            ("membership_tpr", "Recognised", "TPR", "finds, because the model knows them too well,"),
            ("overforgotten_tpr", "Over-forgotten", "Low TPR", "finds, because the model knows them too badly,"),
        )
        for key, words in (("10", "10"), ("1", "1"), ("0_1", "0.1"))
    ),
    _margins(
        "margin_distance",
        "Distance of the margins",
        "KS",
        "Largest difference between the distribution functions of the margins of forgotten and of never-seen "
        "examples (Kolmogorov-Smirnov). Zero is ideal; with few examples chance alone keeps it above.",
        aim="lower",
    ),
    _margins(
        "margin_distance_p",
        "p-value of that distance",
        "KS p",
        "Chance of such a distance, or a larger one, if both were drawn alike. A large one shows nothing by itself: "
        "see the power.",
        aim="higher",
    ),
    Measure(
        "margin_distance_power",
        "Power of that test",
        "Power",
        "Chance that the same test, with as many examples, would notice if the forget set still were as in the "
        "original.",
        aim="higher",
        needs="original",
        compared=False,
        blind="it speaks of the test and of the original, not of the model",
    ),
    Measure(
        "margin_distance_detectable",
        "Detectable distance",
        "KS min",
        "The smallest such distance that the test finds with a chance of 80 %, with as many examples.",
        aim="lower",
        needs="unseen",
        compared=False,
        blind="it speaks of the number of examples, not of the model",
    ),
    _margins(
        "margin_wasserstein",
        "Mean distance of the margins",
        "Wasserstein",
        "Mean difference between margins of equal rank of forgotten and of never-seen examples, in nats.",
        aim="lower",
        high=float("inf"),
        unit="nats",
    ),
    *(
        attack(
            f"margin_shift_of_{which}",
            f"Shift of the {which} margins",
            f"Shift {which}",
            f"The {words} quantile of the margins of the forgotten minus that of never-seen examples, in nats.",
            low=float("-inf"),
            high=float("inf"),
            unit="nats",
            compared=False,
            chance=0.0,
        )
        for which, words in (("hard", "5 %"), ("easy", "95 %"))
    ),
    attack(
        "margin_shift",
        "Shift of the margins",
        "Shift",
        "Median margin of the forgotten minus that of never-seen examples, in nats. Above zero: remembered; below: "
        "over-forgotten.",
        low=float("-inf"),
        high=float("inf"),
        unit="nats",
        compared=False,
        chance=0.0,
    ),
)
