"""From answers to numbers: pure functions of what models said, whether just now or in a file."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from amnesty.errors import InvalidInputError
from amnesty.evaluation.answers import Answers
from amnesty.evaluation.gaps import GAP_PARTS, average_gap, runtime_efficiency, tug_of_war
from amnesty.evaluation.intervals import Interval, paired_difference, wilson
from amnesty.evaluation.likeness import MIN_EXAMPLES, likeness
from amnesty.evaluation.measures import beyond_answers, of_another, of_original
from amnesty.evaluation.membership import membership_test, usable_rates
from amnesty.evaluation.scores import Scores
from amnesty.evaluation.threshold_attack import Advantage, matched, membership_advantage
from amnesty.seeds import derive

Parts = Mapping[str, Answers]
"""Part of the data -> a model's answers on it. ``canaries`` and ``canary_nonmembers`` are apart from the others."""


@dataclass(frozen=True)
class Measured:
    """One model's answers by part, empty where they are not known, and the numbers that they and it alone tell.

    Attributes:
        absent: measure -> why it could not be taken.
    """

    answers: Parts
    numbers: Mapping[str, float]
    absent: Mapping[str, str] = field(default_factory=dict)

    def told(self, facts: Mapping[str, float]) -> Measured:
        """Return the same with further facts among the numbers."""
        return Measured(self.answers, {**self.numbers, **facts}, self.absent)


def measured(
    parts: Parts,
    original: Parts,
    facts: Mapping[str, float],
    forgotten: Sequence[int] = (),
    seed: int = 0,
    absent: Mapping[str, str] | None = None,
) -> Measured:
    """Take all measures of one model, with intervals.

    Args:
        parts: the model's answers.
        original: those of the model before unlearning, for the power of the tests; ``parts`` itself for that model.
        facts: measures that cannot be told from answers, such as the seconds that it took.
        forgotten: classes that are forgotten altogether.
        seed: of the draws.
        absent: measures among the facts that could not be taken, and why.
    """
    # Draws go by position: in an order of the examples' own, the same for all models, that of the data is no matter.
    orders = {part: np.lexsort((said.margin, said.label)) for part, said in original.items()}
    own, before = ({part: said[orders[part]] for part, said in side.items()} for side in (parts, original))
    values = _accuracies(own, forgotten) | _membership(own, before, seed) | _canaries(own)
    return Measured(parts, {**values, **facts}, absent or {})


def scored(
    own: Measured,
    original: Measured,
    reference: Measured | None = None,
    second: Measured | None = None,
    forgotten: Sequence[int] = (),
) -> Scores:
    """Put a model's numbers beside those of the original and of the retrained models; see `Scores`."""
    values = dict(own.numbers) | _beside_original(own, original, forgotten)
    if reference is not None:
        values |= _beside_reference(own, reference, forgotten)
    if reference is not None and second is not None:
        floor = {**second.numbers, **_beside_reference(second, reference, forgotten)}
        values |= of_another(floor, "null")
    return Scores(values, own.answers, own.absent)


def rescored(
    answers: Mapping[str, Parts],
    recorded: Mapping[str, Mapping[str, float]],
    *,
    reference: str | None = None,
    floor: str | None = None,
    forgotten: Sequence[int] = (),
    seed: int = 0,
) -> dict[str, Scores]:
    """Take every measure again from stored answers.

    Args:
        answers: name of a model -> its answers; ``"original"`` is the model before unlearning.
        recorded: name -> numbers as recorded; those that answers cannot tell stay.
        reference: name of the retrained model.
        floor: name of a second one.
        forgotten: as `measured`.
        seed: as `measured`.

    Raises:
        InvalidInputError: there are no answers of the original, the reference or the floor.
    """
    lacking = [name for name in ("original", reference, floor) if name is not None and name not in answers]
    if lacking:
        raise InvalidInputError(f"There are no answers of {lacking[0]!r}; there are those of {', '.join(answers)}.")
    before = answers["original"]
    found = {}
    for name, parts in answers.items():
        told = measured(parts, before, {}, forgotten, seed)
        found[name] = told.told(beyond_answers(recorded.get(name, {})))
    sides = (None if name is None else found[name] for name in (reference, floor))
    target, second = sides
    return {name: scored(one, found["original"], target, second, forgotten) for name, one in found.items()}


def _beside_original(own: Measured, original: Measured, forgotten: Sequence[int]) -> dict[str, float]:
    return of_original(original.numbers) | _paired("holdout_change", own.answers, original.answers, forgotten)


def _beside_reference(own: Measured, reference: Measured, forgotten: Sequence[int]) -> dict[str, float]:
    """Return the distances to the retrained model."""
    values, theirs = own.numbers, reference.numbers
    found = of_another(theirs, "reference")
    found["average_gap"] = average_gap(values, theirs)
    if all(key in values and key in theirs for key in GAP_PARTS[:3]):
        found["tug_of_war"] = tug_of_war(values, theirs)
    if "seconds" in values and theirs.get("seconds", 0) > 0 and values["seconds"] > 0:
        found["runtime_efficiency"] = runtime_efficiency(values["seconds"], theirs["seconds"])
    if not own.answers or not reference.answers:
        return found
    mine, its = own.answers["forget"], reference.answers["forget"]
    if mine.js_to_reference is not None:
        found["js_to_reference"] = float(mine.js_to_reference.mean())
    same = _rate("agreement_with_reference", mine.predicted == its.predicted)
    return found | same | _paired("holdout_gap", own.answers, reference.answers, forgotten)


def _accuracies(parts: Parts, forgotten: Sequence[int]) -> dict[str, float]:
    values: dict[str, float] = {}
    for part in ("forget", "retain"):
        if part in parts:
            values |= _rate(f"{part}_accuracy", parts[part].correct)
    values["unlearning_accuracy"] = 1 - values["forget_accuracy"]
    if "holdout" in parts:
        gone = np.isin(parts["holdout"].label, forgotten)
        for key, where in (("holdout_accuracy", ~gone), ("holdout_forgotten_accuracy", gone)):
            if where.any():
                values |= _rate(key, parts["holdout"].correct[where])
    return values


def _rate(key: str, found: np.ndarray) -> dict[str, float]:
    interval = wilson(int(found.sum()), len(found))
    ends = {f"{key}_low": interval.low, f"{key}_high": interval.high, f"{key}_count": len(found)}
    return {key: float(found.mean()), **ends}


def _paired(key: str, own: Parts, other: Parts, forgotten: Sequence[int]) -> dict[str, float]:
    if "holdout" not in own or "holdout" not in other:
        return {}
    kept = ~np.isin(own["holdout"].label, forgotten)
    if not kept.any():
        return {}
    found = paired_difference(own["holdout"].correct[kept], other["holdout"].correct[kept])
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}


def unseen_part(parts: Container[str]) -> str | None:
    """Return the name of the part that membership is tested against."""
    return next((name for name in ("nonmembers", "holdout") if name in parts), None)


def compared(parts: Parts, seed: int) -> tuple[Answers, Answers] | None:
    """Return the forgotten examples and unseen ones of equal class shares; ``None`` where no class is in both."""
    part = unseen_part(parts)
    if part is None:
        return None
    forget, held = parts["forget"], parts[part]
    like = matched(forget.label, held.label, np.random.default_rng(derive(seed, "membership auc")))
    return (forget[np.isin(forget.label, held.label)], held[like]) if len(like) else None


def _membership(parts: Parts, original: Parts, seed: int) -> dict[str, float]:
    pair = compared(parts, seed)
    if pair is None:
        return {}
    values = _attacked("membership_auc", *pair, rates=True)
    for feature in ("correctness", "entropy", "modified_entropy"):
        members, nonmembers = (side.features[feature] for side in pair)
        if np.ptp(np.concatenate([members, nonmembers])) > 0:
            test = membership_test(members, nonmembers, feature=feature, rates=())
            values |= _interval(f"membership_auc_{feature}", test.auc)
    before = compared(original, seed)
    if before is not None and min(len(side) for side in (*pair, *before)) >= MIN_EXAMPLES:
        values |= _likeness(pair, before, seed)
    return values | _advantage(parts, seed)


def _attacked(key: str, members: Answers, nonmembers: Answers, rates: bool) -> dict[str, float]:
    """Return the AUC by margins and the rates at few false alarms, as far as there are examples for them."""
    if np.ptp(np.concatenate([members.margin, nonmembers.margin])) == 0:
        return {key: 0.5}  # one answer to all: no attack is better than a coin, and none has an interval
    asked = usable_rates(len(nonmembers)) if rates else ()
    test = membership_test(members.margin, nonmembers.margin, rates=asked)
    values = _interval(key, test.auc) | {f"{key}_count": test.members, f"{key}_against": test.nonmembers}
    for side, found in (("membership_tpr", test.remembered), ("overforgotten_tpr", test.over_forgotten)):
        for rate, interval in found.items():
            values |= _interval(f"{side}_at_{_RATES[rate]}_percent", interval)
    return values


_RATES = {0.1: "10", 0.01: "1", 0.001: "0_1"}


def _interval(key: str, found: Interval | Advantage) -> dict[str, float]:
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}


def _likeness(pair: tuple[Answers, Answers], before: tuple[Answers, Answers], seed: int) -> dict[str, float]:
    forget, held = (side.margin for side in pair)
    original = before[0].margin, before[1].margin
    if any(np.ptp(np.concatenate(sides)) == 0 for sides in ((forget, held), original)):
        return {}
    found = likeness(forget, held, original=original, seed=derive(seed, "likeness"))
    values = {
        "margin_distance": found.distance,
        "margin_distance_low": found.low,
        "margin_distance_high": found.high,
        "margin_distance_p": found.p_value,
        "margin_distance_detectable": found.detectable,
        "margin_wasserstein": found.wasserstein,
        "margin_shift": found.median_gap,
        "margin_shift_of_hard": found.low_quantile_gap,
        "margin_shift_of_easy": found.high_quantile_gap,
    }
    return values if found.power is None else {**values, "margin_distance_power": found.power}


def _advantage(parts: Parts, seed: int) -> dict[str, float]:
    # Where the task has non-members of its own, retained examples are not like the forgotten ones: a threshold that
    # tells them from such non-members tells wrong labels from right ones, say, and not what was trained on.
    if unseen_part(parts) != "holdout" or "retain" not in parts:
        return {}
    forget, retain, held = ((parts[name].margin, parts[name].label) for name in ("forget", "retain", "holdout"))
    with suppress(InvalidInputError):  # too few unseen examples to fit a threshold on
        return _interval("membership_advantage", membership_advantage(forget, retain, held, seed=seed))
    return {}


def _canaries(parts: Parts) -> dict[str, float]:
    if "canaries" not in parts:
        return {}
    members, nonmembers = parts["canaries"], parts["canary_nonmembers"]
    return _rate("canary_accuracy", members.correct) | _attacked("canary_membership_auc", members, nonmembers, False)
