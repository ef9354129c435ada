"""What is measured of a zero-shot model beside its answers: other data sets, recall, features, other words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import chain

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError
from amnesty.evaluation.further import Further
from amnesty.evaluation.intervals import Interval, paired_difference, wilson
from amnesty.evaluation.membership import membership_test
from amnesty.evaluation.two_towers import Encoded, Looked
from amnesty.evaluation.zero_shot_changes import SCHEMA, zero_shot_facts
from amnesty.tasks.zero_shot import ZeroShot, ZeroShotClassifier

__all__ = ["SCHEMA", "ZeroShotMeasures", "zero_shot_facts"]

_ENDINGS = ("_low", "_high", "_count", "_against", "_original", "_reference", "_null")

Taken = dict[str, float]


class ZeroShotMeasures:
    """Takes the measures of a zero-shot task that answers to its images do not tell; the original is asked once.

    What each needs of the task: ``transfers`` (`transfer_accuracy`), ``captions`` (recall), ``paraphrases``,
    ``forget_captions`` and ``captions`` (`pair_membership_auc`), a class that is forgotten altogether with ``retain``
    and ``holdout`` (`probe_forget_accuracy`). Every data set of ``transfers`` also has numbers of its own, such as
    ``"transfer_accuracy/colours"``.

    Args:
        task: the original is its model.
        seed: of the choice of images that a probe is trained on.

    Raises:
        InvalidInputError: another data set is called as if it were a number beside a measure.
    """

    def __init__(self, task: ZeroShot, seed: int = 0) -> None:
        wrong = [name for name in task.transfers if name.endswith(_ENDINGS)]
        if wrong:
            raise InvalidInputError(
                f"The name of a data set of `transfers` must not end in {', '.join(_ENDINGS)}, which stand for "
                f"numbers beside a measure; found {wrong[0]!r}."
            )
        self._looked = Looked(task, seed)

    @cached_property
    def _original(self) -> Encoded:
        return Encoded(self._looked, self._looked.task.model)

    def take(self, found: Further, model: nn.Module) -> None:
        """Take every measure that the task has the data for; of the others, keep the reason.

        Args:
            found: where to.
            model: a `ZeroShotClassifier`, such as `amnesty.unlearn` gives; no other has two towers to be asked.
        """
        if not isinstance(model, ZeroShotClassifier):
            reason = f"it asks two towers, found {type(model).__name__}; pass `task.classifier(model)`."
            found.absent.update(dict.fromkeys(chain.from_iterable(keys for keys, _ in _MEASURES), reason))
            return
        own = self._original if model is self._looked.task.model else Encoded(self._looked, model)
        for keys, measure in _MEASURES:
            try:
                found.numbers.update(measure(own, self._original))
            except InvalidInputError as error:
                found.absent.update(dict.fromkeys(keys, str(error)))


def _transfers(own: Encoded, before: Encoded) -> Taken:
    if not own.transfers:
        raise InvalidInputError("it needs other data sets: give the task `transfers`.")
    found: Taken = {}
    rates, changes = [], []
    for name, right in own.transfers.items():
        rates.append(wilson(int(right.sum()), len(right)))
        changes.append(paired_difference(right, before.transfers[name]))
        found |= _told(f"transfer_accuracy/{name}", rates[-1], len(right))
        found |= _told(f"transfer_change/{name}", changes[-1])
    count = sum(map(len, own.transfers.values()))
    return _told("transfer_accuracy", mean_of(rates), count) | _told("transfer_change", mean_of(changes)) | found


def _recall(own: Encoded, before: Encoded, within: int) -> Taken:
    found: Taken = {}
    for key, side in zip(("image_to_text", "text_to_image"), own.captions, strict=True):
        found |= _share(f"{key}_recall_at_{within}", side.found(within).numpy())
    return found


def _image_drift(own: Encoded, before: Encoded) -> Taken:
    return {"image_feature_drift": _drift(own.kept_images, before.kept_images)}


def _text_drift(own: Encoded, before: Encoded) -> Taken:
    return {"text_feature_drift": _drift(own.kept_texts, before.kept_texts)}


def _drift(now: Tensor, before: Tensor) -> float:
    if now.shape != before.shape:
        raise InvalidInputError(
            f"it needs features as long as those of the original, {before.shape[1]}, found {now.shape[1]}."
        )
    return 1.0 - min(1.0, float(F.cosine_similarity(now.double(), before.double()).mean()))


def _paraphrased(own: Encoded, before: Encoded) -> Taken:
    together, alone = own.paraphrased
    best = max(alone, key=lambda right: int(right.sum()))
    return _share("paraphrased_forget_accuracy", together) | _share("best_paraphrase_forget_accuracy", best)


def _probed(own: Encoded, before: Encoded) -> Taken:
    return _share("probe_forget_accuracy", (before if own.sees_alike else own).probed)


def _pair_membership(own: Encoded, before: Encoded) -> Taken:
    members, others = own.fit("forget_captions"), own.fit("captions")
    if np.ptp(np.concatenate([members, others])) == 0:
        return {"pair_membership_auc": 0.5}  # no attack is better than a coin, and none has an interval
    test = membership_test(members, others, feature="cosine", rates=())
    against = {"pair_membership_auc_against": float(test.nonmembers)}
    return _told("pair_membership_auc", test.auc, test.members) | against


_MEASURES: tuple[tuple[tuple[str, ...], Callable[[Encoded, Encoded], Taken]], ...] = (
    (("transfer_accuracy", "transfer_change"), _transfers),
    (("image_to_text_recall_at_1", "text_to_image_recall_at_1"), partial(_recall, within=1)),
    (("image_to_text_recall_at_5", "text_to_image_recall_at_5"), partial(_recall, within=5)),
    (("image_feature_drift",), _image_drift),
    (("text_feature_drift",), _text_drift),
    (("paraphrased_forget_accuracy", "best_paraphrase_forget_accuracy"), _paraphrased),
    (("probe_forget_accuracy",), _probed),
    (("pair_membership_auc",), _pair_membership),
)


def mean_of(found: Sequence[Interval]) -> Interval:
    """Return the mean of shares, or of differences of shares, of different data sets, with its interval.

    The distances of the ends from the estimates are joined as those of independent estimates are.

    Source: Zou and Donner, Statistics in Medicine 27, 2008, 1693-1702 (the MOVER method).

    >>> mean_of([Interval(0.5, 0.2, 0.8), Interval(0.7, 0.3, 0.9)])
    Interval(value=0.6, low=0.35, high=0.78...)
    """
    count = len(found)
    value = math.fsum(one.value for one in found) / count
    low, high = (math.sqrt(math.fsum((one.value - end(one)) ** 2 for one in found)) / count for end in (_low, _high))
    return Interval(value, value - low, value + high)


def _low(interval: Interval) -> float:
    return interval.low


def _high(interval: Interval) -> float:
    return interval.high


def _share(key: str, right: np.ndarray) -> Taken:
    return _told(key, wilson(int(right.sum()), len(right)), len(right))


def _told(key: str, found: Interval, count: int | None = None) -> Taken:
    ends = {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
    return ends if count is None else {**ends, f"{key}_count": float(count)}
