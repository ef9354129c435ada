"""What every measure means, what it needs, and what it cannot see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

Aim = Literal["reference", "chance", "higher", "lower"]
"""What papers call good: as the retrained model, as a coin, or as high or as low as it gets."""

Needs = Literal[
    "nothing",
    "unseen",
    "retain",
    "original",
    "reference",
    "floor",
    "canaries",
    "relearning",
    "teachers",
    "compat",
    "zero-shot",
    "transfers",
    "captions",
    "paraphrases",
]
"""What a measure cannot do without: unseen examples, a retain set, a retrained model, ..."""


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        key: in `Scores` and scores.json. title, short: for people; short for terminals. meaning: in plain words.
        aim: what counts as good where the measure is read alone; see `Aim`.
        needs: see `Needs`.
        low, high: the ends of its range. unit: ``"fraction"``, ``"nats"``, ``"bits"``, ``"ratio"``, ``"seconds"``.
        shown: whether it is a column of every table; the others are listed below.
        compared: whether its difference to the retrained model is shown, in points.
        blind: what it cannot see, so that methods may not be ranked by it alone: the model that was never
            unlearned, or one that was destroyed, comes out as best, or as good as the best. Empty where it may.
        chance: the value that tells nothing, where the aim is ``"chance"``.
    """

    key: str
    title: str
    short: str
    meaning: str
    aim: Aim = "reference"
    needs: Needs = "nothing"
    low: float = 0.0
    high: float = 1.0
    unit: str = "fraction"
    shown: bool = False
    compared: bool = True
    blind: str = ""
    chance: float = 0.5

    def goodness(self, value: float, target: float) -> float:
        """Return how good a value is beside the retrained model's, ``target``, where the measure is read alone.

        Higher is better; of no unit.
        """
        if self.aim == "chance":
            return -abs(value - self.chance)
        return {"higher": value, "lower": -value, "reference": -abs(value - target)}[self.aim]


_DESTROYED = "a destroyed model does as well as a good one"
_UNTOUCHED = "the model that was never unlearned does best"

_attack = partial(Measure, aim="chance", needs="unseen", blind=_DESTROYED)
_margins = partial(Measure, needs="unseen", compared=False, blind=_DESTROYED)
_published = partial(Measure, needs="compat", blind=_DESTROYED)
_relearning = partial(Measure, needs="relearning", compared=False)
_retrieval = partial(Measure, aim="higher", needs="captions", blind=f"{_UNTOUCHED}; it says nothing of forgetting")

TABLE: tuple[Measure, ...] = (
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
        "One minus the forget accuracy, as many papers print it.",
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
        blind=_UNTOUCHED,
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
        blind=_UNTOUCHED,
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
        blind=_UNTOUCHED,
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
    _attack(
        "membership_auc",
        "Membership AUC",
        "AUC",
        "An attack on privacy: shown one forgotten and one never-seen example of the same class, how often can a "
        "test on the model's answers point out the forgotten one? 50 % is a coin toss, so nothing can be told. "
        "Above: the data is still remembered. Below: it is over-forgotten, and stands out by being treated worse "
        "than new data.",
        shown=True,
    ),
    _attack(
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
        _attack(
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
        _attack(
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
        _attack(
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
    _attack(
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
    _published(
        "svc_confidence_compat",
        "MIA (SVC, confidence), as published",
        "MIA",
        "Share of the forgotten examples that a support vector machine on confidences, fitted to retained and test "
        "examples, calls non-members: the MIA efficacy in tables of the SalUn family. To be compared with published "
        "tables only.",
    ),
    _published(
        "svc_correctness_compat",
        "MIA (SVC, correctness), as published",
        "MIA (SVC)",
        "The same by correctness: the unlearning accuracy, or one minus it.",
        aim="reference",
    ),
    _published(
        "svc_entropy_compat",
        "MIA (SVC, entropy), as published",
        "MIA (SVC)",
        "The same by the entropy of the answer.",
        aim="reference",
    ),
    _published(
        "svc_privacy_confidence_compat",
        "MIA privacy (SVC, confidence), as published",
        "MIA privacy (SVC)",
        "Mean recall of that machine on further retained and test examples.",
        aim="reference",
    ),
    _published(
        "logistic_loss_compat",
        "MIA (logistic, loss), as published",
        "MIA (logistic)",
        "Cross-validated accuracy of a logistic regression on the loss, forgotten against test examples.",
        aim="chance",
    ),
    _published(
        "indiscernibility",
        "Indiscernibility",
        "Indiscernibility",
        "1 - 2 |a - 1/2|, with a the accuracy of Deep Unlearn's logistic regression on the loss; 1 is a coin.",
        aim="higher",
    ),
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
        blind=_DESTROYED,
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
        blind=_DESTROYED,
        chance=1.0,
    ),
    _relearning(
        "relearning_p",
        "p-value of relearning",
        "Relearn p",
        "Chance of so few steps if the forget set is relearnt no faster than never-seen examples are learnt.",
        aim="higher",
        blind=_DESTROYED,
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
    Measure(
        "transfer_accuracy",
        "Accuracy on other data sets",
        "Transfer",
        "Share of correct answers of a zero-shot model on data sets that are no part of the request, each asked by "
        "its own class names and templates; the mean over the data sets, which count alike. What the model is good "
        "for beyond these classes. Each data set by itself stands among the further measures.",
        aim="higher",
        needs="transfers",
        shown=True,
        blind=f"{_UNTOUCHED}; and it sees only the classes of these data sets",
    ),
    Measure(
        "transfer_change",
        "Change of accuracy on other data sets",
        "Transfer change",
        "That accuracy minus the original's, counted example by example.",
        aim="higher",
        needs="transfers",
        low=-1.0,
        compared=False,
        blind=f"{_UNTOUCHED}; and it sees only the classes of these data sets",
    ),
    Measure(
        "paraphrased_forget_accuracy",
        "Forget accuracy, in other words",
        "Paraphrased",
        "Share of the forgotten training data that is still recognised when the model is asked with other templates, "
        "all of them averaged. Above the forget accuracy: what was forgotten is the wording.",
        aim="lower",
        needs="paraphrases",
        shown=True,
        blind="the lowest is reached by a destroyed model; and other words may bring back more",
    ),
    Measure(
        "best_paraphrase_forget_accuracy",
        "Forget accuracy, in the words that bring back most",
        "Worst words",
        "The same with one of these templates alone, the one that recognises most. As the highest of several it is "
        "a little too high by chance: compare it with that of the original or of a retrained model.",
        aim="lower",
        needs="paraphrases",
        blind="the lowest is reached by a destroyed model; and other words may bring back more",
    ),
    Measure(
        "probe_forget_accuracy",
        "Forgotten class, by a linear probe",
        "Probe",
        "Share of never-seen images of the forgotten class that a linear classifier names right, which was trained "
        "on the image features of retained and forgotten training images, classes weighing alike. Where it is as "
        "high as in the original while the forget accuracy fell, the class was hidden from the words and is still in "
        "the image features. Training the text tower alone cannot change it.",
        aim="reference",
        needs="zero-shot",
        shown=True,
        blind="a model that never met the class lets a probe learn it too; a destroyed model is lowest",
    ),
    *(
        _retrieval(
            f"{way}_recall_at_{k}",
            f"{title}, first {k}" if k > 1 else title,
            f"{short}@{k}",
            f"Share of {asked} for which {answer} is {place} {among}. The same text under several images is right "
            "for all of them; an answer that is as near as the right one counts as nearer. A caption of another "
            "image counts as wrong even where it would be true.",
        )
        for k, place in ((1, "the nearest"), (5, "one of the five nearest"))
        for way, title, short, asked, answer, among in (
            ("image_to_text", "Captions found by image", "I2T", "images", "a caption of theirs", "of all captions"),
            ("text_to_image", "Images found by caption", "T2I", "captions", "an image of theirs", "of all images"),
        )
    ),
    Measure(
        "image_feature_drift",
        "Drift of image features",
        "Image drift",
        "One minus the mean cosine between this model's and the original's features of images that are kept: unseen "
        "ones, or retained ones where there are none. 0 where the image tower did not move.",
        aim="lower",
        needs="zero-shot",
        high=2.0,
        compared=False,
        blind=f"{_UNTOUCHED}; and features that turn together change no answer",
    ),
    Measure(
        "text_feature_drift",
        "Drift of text features",
        "Text drift",
        "One minus the mean cosine between this model's and the original's features of the prompts of the classes "
        "that are kept. 0 where the text tower did not move.",
        aim="lower",
        needs="zero-shot",
        high=2.0,
        compared=False,
        blind=f"{_UNTOUCHED}; and it sees only the words of these classes",
    ),
    _attack(
        "pair_membership_auc",
        "Membership AUC of image-text pairs",
        "Pair AUC",
        "How often has a forgotten pair of image and caption a higher cosine than a never-seen one? 50 % is a coin "
        "toss. Above: the pairs are still known, or the two sets of captions differ in kind, which this attack "
        "cannot tell apart: compare it with the original's.",
        needs="captions",
    ),
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
        "as they were measured, in points. Zero would mean: no different on average. Two retrained models also "
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
