"""Did what earlier requests forgot come back with the next one?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset

from amnesty.data import dataset_of
from amnesty.evaluation import Answers, Finding, Interval
from amnesty.evaluation.findings import findings
from amnesty.evaluation.intervals import normal_quantile, paired_difference
from amnesty.evaluation.measures import of_original
from amnesty.evaluation.numbers import compared, measured
from amnesty.requests.chain import Earlier
from amnesty.requests.forgotten import Forgotten, hashes_of
from amnesty.requests.links import Link
from amnesty.tasks import Source
from amnesty.tasks.labelled import predict

RecheckAnswer = Literal["not detected", "came back", "remembered", "over-forgotten", "inconclusive", "not at hand"]

Parts = Mapping[str, Answers]

_NEVER = {"membership_auc": 0.5, "holdout_forgotten_accuracy": 0.0}


@dataclass(frozen=True)
class Rechecked:
    """The answer for one earlier request.

    Answers: ``"not detected"``; ``"came back"`` (detected, and surely more than before the new request);
    ``"remembered"`` (detected, as it may have been before it); ``"over-forgotten"`` (treated worse than unseen data);
    ``"inconclusive"`` (these data could not have shown it); ``"not at hand"`` (none of its examples was found).

    Attributes:
        name: of the earlier request; see `Earlier.names`.
        answer: see above.
        reason: the numbers it rests on, in words.
        forgotten: how many examples it forgot. found: how many of them are at hand.
        numbers: measures before and after the new request, with their intervals, and the change.
    """

    name: str
    answer: RecheckAnswer
    reason: str
    forgotten: int
    found: int
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """The same as plain data, for audit.json."""
        return {**vars(self), "numbers": dict(self.numbers)}


def recheck(
    before: nn.Module,
    after: nn.Module,
    earlier: Earlier,
    datasets: Mapping[str, Source],
    unseen: Source | None = None,
    *,
    seed: int = 0,
) -> tuple[Rechecked, ...]:
    """Ask two models about what earlier requests forgot, as far as those examples are still at hand.

    What is found is told from unseen examples of the same classes by the AUC of margins; of classes that were
    forgotten altogether it is asked whether they are recognised. Whether the test could have failed is told by what
    was recorded of the model that knew the examples; see `amnesty.evaluation.findings`.

    Args:
        before: the model that the new request started from.
        after: the model that it leaves.
        earlier: see `amnesty.requests.chain.read_earlier`.
        datasets: where examples of earlier requests may still be, such as the whole training data.
        unseen: examples that no model was trained on; those that earlier requests forgot are left out.
        seed: of the draws of the tests.

    Raises:
        DataError: a data set that cannot be read.
        ModelError: a model that cannot take these examples.
    """
    if not earlier.chain:
        return ()
    where = _positions(datasets, earlier.hashes)
    others = None if unseen is None else _without(unseen, earlier.hashes)
    held = {} if others is None else {"holdout": others}
    found = []
    for name, link, forgotten in zip(earlier.names, earlier.chain, earlier.forgotten, strict=True):
        data, count = _gathered(forgotten, where, datasets)
        if data is None:
            reason = "none of its examples is in the data at hand"
            found.append(Rechecked(name, "not at hand", reason, len(forgotten.hashes), 0))
            continue
        sides = [_answers(model, {"forget": data, **held}) for model in (before, after)]
        answer, reason, numbers = _compare(sides[0], sides[1], link, seed)
        reason = f"{count} of {len(set(forgotten.hashes))} examples at hand; {reason}"
        found.append(Rechecked(name, answer, reason, len(forgotten.hashes), count, numbers))
    return tuple(found)


def _positions(datasets: Mapping[str, Source], hashes: frozenset[bytes]) -> dict[bytes, tuple[str, int]]:
    """Return where each example is first found."""
    found: dict[bytes, tuple[str, int]] = {}
    for name, source in datasets.items():
        for position, one in enumerate(hashes_of(source)):
            if one in hashes:
                found.setdefault(one, (name, position))
    return found


def _gathered(
    forgotten: Forgotten, where: Mapping[bytes, tuple[str, int]], datasets: Mapping[str, Source]
) -> tuple[Dataset[Any] | None, int]:
    """Return those examples that are at hand, each once, and how many they are."""
    by_set: dict[str, list[int]] = {}
    for one in sorted(set(forgotten.hashes)):
        if one in where:
            name, position = where[one]
            by_set.setdefault(name, []).append(position)
    parts = [Subset(dataset_of(datasets[name], name), chosen) for name, chosen in by_set.items()]
    return (ConcatDataset(parts) if parts else None), sum(map(len, by_set.values()))


def _without(source: Source, hashes: frozenset[bytes]) -> Dataset[Any] | None:
    keep = [position for position, one in enumerate(hashes_of(source)) if one not in hashes]
    return Subset(dataset_of(source, "unseen"), keep) if keep else None


def _answers(model: nn.Module, parts: Mapping[str, Source]) -> dict[str, Answers]:
    return {name: Answers.of(predict(model, source)) for name, source in parts.items()}


def _compare(before: Parts, after: Parts, link: Link, seed: int) -> tuple[RecheckAnswer, str, dict[str, float]]:
    """Return the answer, the reason and the numbers."""
    taken = [dict(measured(side, before, {}, link.forgotten_classes, seed).numbers) for side in (before, after)]
    gone = bool(np.isin(before["forget"].label, link.forgotten_classes).all())
    key = "holdout_forgotten_accuracy" if gone else "membership_auc"
    known = dict(link.known)
    if gone and key not in taken[0]:  # no unseen example of the class is left: its own ones tell, too
        for numbers in (*taken, known):
            numbers.update(
                {key + end: numbers[f"forget_accuracy{end}"] for end in _ENDS if f"forget_accuracy{end}" in numbers}
            )
    numbers = _named(taken[0], key, "before") | _named(taken[1], key, "after")
    if key not in taken[1]:
        return "inconclusive", "no unseen examples of their classes to compare them with", numbers
    was, now = (_finding(one, known, key) for one in taken)
    change = _recognised(before, after, link) if gone else _auc_change(before, after, seed)
    numbers |= {"change": change.value, "change_low": change.low, "change_high": change.high}
    answer: RecheckAnswer = "came back" if now.answer == "remembered" and change.low > 0 else _same(now)
    reason = (
        f"{now.reason}; before this request {taken[0][key]:.3f} ({was.answer}), "
        f"change {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
    )
    return answer, reason, numbers


_ENDS = ("", "_low", "_high")


def _named(numbers: Mapping[str, float], key: str, when: str) -> dict[str, float]:
    found = {(one, end) for one in (key, "forget_accuracy") for end in _ENDS if one + end in numbers}
    return {f"{one}_{when}{end}": numbers[one + end] for one, end in sorted(found)}


def _finding(numbers: Mapping[str, float], known: Mapping[str, float], key: str) -> Finding:
    """Grade one model's numbers by what the model that knew the examples scored."""
    question = "class" if key == "holdout_forgotten_accuracy" else "membership"
    recorded = of_original(known)
    beside = recorded if f"{key}_original" in recorded else {f"{key}_original": _NEVER[key]}
    own = {key + end: numbers[key + end] for end in _ENDS if key + end in numbers}
    found = next(one for one in findings({**own, **beside}) if one.question == question)
    if beside is recorded:
        return found
    said = found.reason.partition(", original")[0]
    return Finding(
        found.question, found.answer, f"{said}; what was known of them before they were forgotten is not recorded"
    )


def _same(finding: Finding) -> RecheckAnswer:
    assert finding.answer in ("not detected", "remembered", "over-forgotten", "inconclusive")
    return finding.answer


def _recognised(before: Parts, after: Parts, link: Link) -> Interval:
    """Return how many more of the class are recognised than before, as a share: unseen ones, if there are any."""
    held = before.get("holdout")
    where = None if held is None else np.isin(held.label, link.forgotten_classes)
    if where is not None and where.any():
        return paired_difference(after["holdout"].correct[where], before["holdout"].correct[where])
    return paired_difference(after["forget"].correct, before["forget"].correct)


def _auc_change(before: Parts, after: Parts, seed: int) -> Interval:
    """Return by how much the AUC rose, with its 95 % interval.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988: the variance of a difference of two AUCs on the
    same examples is that of the difference of their placements.
    """
    orders = {part: np.lexsort((said.margin, said.label)) for part, said in before.items()}
    sides = [compared({part: said[orders[part]] for part, said in side.items()}, seed) for side in (before, after)]
    placed = [_placements(pair[0].margin, pair[1].margin) for pair in sides if pair is not None]
    ours, theirs = (placed[1][side] - placed[0][side] for side in (0, 1))
    value = float(ours.mean())
    if min(len(ours), len(theirs)) < 2:
        return Interval(value, -1.0, 1.0)
    half = normal_quantile(0.95) * float(np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs)))
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


def _placements(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of non-members below each member, and of members above each non-member, ties half."""
    return _below(members, nonmembers), 1 - _below(nonmembers, members)


def _below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    ordered = np.sort(others)
    ends = [np.searchsorted(ordered, scores, side) for side in ("left", "right")]
    share: np.ndarray = (ends[0] + ends[1]) / (2 * len(others))
    return share
