"""One task, many models: the original and the retrained ones are asked once, every other model as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from amnesty.data import Batches, Canaries, batch_hashes, dataset_of
from amnesty.errors import InvalidInputError, SplitError
from amnesty.evaluation.answers import Answers, ask
from amnesty.evaluation.distance import weight_distance
from amnesty.evaluation.further import Further, like_untrained, published, relearned
from amnesty.evaluation.numbers import Measured, measured, scored, unseen_part
from amnesty.evaluation.scores import Scores
from amnesty.evaluation.zero_shot import ZeroShotMeasures
from amnesty.tasks import Classification, Predictions, Source, unpack
from amnesty.tasks.labelled import predict
from amnesty.tasks.zero_shot import ZeroShot

Also = Literal["compat", "relearning", "teachers"]
"""What is measured on request: the protocols of published tables; relearning; likeness to untrained networks."""

ALSO: tuple[Also, ...] = get_args(Also)


class Evaluator:
    """Scores models on a task; see `Scores`.

    Models run in evaluation mode, float32, on their own device, over data in its own order; neither they nor the
    caller's random generators change. The original is the task's model.

    Args:
        task: what was to be forgotten and kept.
        reference: the model retrained without the forget set, or its scores.
        second_reference: another such model, of another seed, or its scores: the floor of every distance.
        canaries: as planted before training. Their members in the forget set are left out of every number but
            those of canaries.
        also: further measures that take time; see `Also`. ``"relearning"`` trains ten copies of a model.
        reference_seconds: what retraining took, for ``runtime_efficiency``.
        seed: of the draws of the tests, and of relearning.

    Raises:
        InvalidInputError: ``also`` names something unknown, or what it needs is not there.
        SplitError: examples of the forget set among the unseen ones (unless the task keeps duplicates); canaries
            that are not in the forget set, or nothing but canaries is.
        ModelError, DataError: as `evaluate`.
    """

    def __init__(
        self,
        task: Classification,
        reference: nn.Module | Mapping[str, float] | None = None,
        *,
        second_reference: nn.Module | Mapping[str, float] | None = None,
        canaries: Canaries | None = None,
        also: Iterable[Also] = (),
        reference_seconds: float | None = None,
        seed: int = 0,
    ) -> None:
        self.task, self.canaries, self.also, self.seed = task, canaries, frozenset(also), seed
        unknown = sorted(self.also - set(ALSO))
        if unknown:
            raise InvalidInputError(f"`also` may name {', '.join(ALSO)}; found {unknown[0]!r}.")
        if not isinstance(task, Classification):
            raise InvalidInputError(
                f"Only classifiers are scored here; this is a {type(task).__name__} task. The images that a "
                "generator draws are scored by `amnesty.evaluation.GenerationEvaluator(task, judge=...)`."
            )
        if second_reference is not None and reference is None:
            raise InvalidInputError("`second_reference` is compared with `reference`: give both.")
        if canaries is not None and isinstance(task, ZeroShot):
            raise InvalidInputError("Canaries are scored for classifiers; a zero-shot task reads pictures.")
        self._zero_shot = ZeroShotMeasures(task, seed) if isinstance(task, ZeroShot) else None
        task.check()
        _refuse_overlap(task)
        self._ordinary = None if canaries is None else _others(task, canaries)
        self._control = self._find_control() if "relearning" in self.also else None
        self._forgotten = task.forgotten_classes if "retain" in task.parts else ()
        self._logits: Mapping[str, Tensor] | None = None
        self._weights = reference if isinstance(reference, nn.Module) else None
        if isinstance(reference, nn.Module):
            task.check_model(reference)
            self._logits = {part: said.logits for part, said in ask(task, reference)[1].items()}
        self._original: Measured | None = None
        self._original = self._measure(task.model, {})
        told = {} if reference_seconds is None else {"seconds": reference_seconds}
        self._reference = self._side(reference, told)
        self._second = self._side(second_reference, {})

    @property
    def original(self) -> Scores:
        """The scores of the model before unlearning."""
        assert self._original is not None
        return self._score(self._original)

    @property
    def reference(self) -> Scores | None:
        """The scores of the retrained model."""
        return None if self._reference is None else self._score(self._reference)

    @property
    def second_reference(self) -> Scores | None:
        """The scores of the second retrained model: what no method can be told to be better than."""
        return None if self._second is None else self._score(self._second)

    def __call__(self, model: nn.Module, *, seconds: float | None = None) -> Scores:
        """Score a model: unlearned, original or retrained.

        Args:
            model: to be scored.
            seconds: what unlearning took, such as `Outcome.seconds`, to stand among the scores.

        Raises:
            ModelError: the model cannot take the task's inputs, tells other classes apart, or its logits are not
                finite.
        """
        self.task.check_model(model)
        return self._score(self._measure(model, {} if seconds is None else {"seconds": seconds}))

    def _score(self, own: Measured) -> Scores:
        assert self._original is not None
        return scored(own, self._original, self._reference, self._second, self._forgotten)

    def _side(self, given: nn.Module | Mapping[str, float] | None, facts: dict[str, float]) -> Measured | None:
        if given is None:
            return None
        if isinstance(given, nn.Module):
            self.task.check_model(given)
            return self._measure(given, facts)
        return Measured({}, {**given, **facts})

    def _measure(self, model: nn.Module, facts: dict[str, float]) -> Measured:
        if model is self.task.model and self._original is not None:
            return self._original.told(facts)
        answers, said = self._ask(model)
        further = self._further(model, said)
        before = answers if self._original is None else self._original.answers
        return measured(answers, before, further.numbers | facts, self._forgotten, self.seed, further.absent)

    def _ask(self, model: nn.Module) -> tuple[dict[str, Answers], dict[str, Predictions]]:
        answers, said = ask(self.task, model, self._logits)
        if self.canaries is not None:
            assert self._ordinary is not None
            answers["canaries"] = answers["forget"][~self._ordinary]
            answers["forget"] = answers["forget"][self._ordinary]
            answers["canary_nonmembers"] = Answers.of(predict(model, self.canaries.nonmembers))
            forget, kept = said["forget"], torch.from_numpy(self._ordinary)
            said["forget"] = Predictions(forget.logits[kept], forget.labels[kept])
        return answers, said

    def _further(self, model: nn.Module, said: Mapping[str, Predictions]) -> Further:
        """Return what cannot be told from answers alone."""
        found = Further()
        if self._zero_shot is not None:
            self._zero_shot.take(found, model)
        if self._weights is not None:
            with suppress(InvalidInputError):  # another architecture, or nothing but zeros: there is no such distance
                found.numbers["weight_distance"] = weight_distance(self._weights, model).relative
        if "compat" in self.also:
            published(found, said, self._forgotten, self.seed)
        if "teachers" in self.also:
            like_untrained(found, self.task, said["forget"].logits, self._forget(), self.seed)
        if self._control is not None:
            forget, control = (self.task.seen_by(model, part) for part in (self._forget(), self._control))
            retain = self.task.seen_by(model, self.task.parts["retain"]) if "retain" in self.task.parts else None
            relearned(found, model, self.task.model, forget, control, retain, self.seed)
        return found

    def _forget(self) -> Source:
        forget = self.task.parts["forget"]
        if self._ordinary is None:
            return forget
        return Subset(dataset_of(forget, "forget"), np.flatnonzero(self._ordinary).tolist())

    def _find_control(self) -> Source:
        part = unseen_part(self.task.parts)
        if part is None:
            raise InvalidInputError(
                "Relearning is compared with learning unseen examples: give the task a `holdout` part."
            )
        return self.task.parts[part]


def evaluate(
    task: Classification,
    model: nn.Module,
    reference: nn.Module | Mapping[str, float] | None = None,
    *,
    second_reference: nn.Module | Mapping[str, float] | None = None,
    canaries: Canaries | None = None,
    also: Iterable[Also] = (),
    seconds: float | None = None,
    seed: int = 0,
) -> Scores:
    """Score a model on a task; see `Scores`. To score several models on one task, make an `Evaluator` once.

    Models run in evaluation mode, float32, on their own device, over data in its own order; neither they nor
    the caller's random generators change.

    Args:
        task: what was to be forgotten and kept.
        model: to be scored: unlearned, original or retrained.
        reference: the model retrained without the forget set, or its scores.
        second_reference: another such model; see `Evaluator`.
        canaries: as planted before training; see `Evaluator`.
        also: further measures that take time; see `Also`.
        seconds: what unlearning took, such as `Outcome.seconds`, to stand among the scores.
        seed: of the draws of the membership test.

    Raises:
        ModelError: the model cannot take the task's inputs, tells other classes apart, or its logits are not
            finite.
        DataError, SplitError: as `Classification.check`.
        InvalidInputError: see `Evaluator`.
    """
    if isinstance(task, Classification):
        task.check_model(model)
    evaluator = Evaluator(task, reference, second_reference=second_reference, canaries=canaries, also=also, seed=seed)
    return evaluator(model, seconds=seconds)


def _others(task: Classification, canaries: Canaries) -> np.ndarray:
    """Return which examples of the forget set are no canaries, bool, shape [n]."""
    planted = set(_hashes(canaries.members))
    forget = _hashes(task.parts["forget"])
    found = np.array([h not in planted for h in forget])
    absent = len(planted - set(forget))
    if absent:
        raise SplitError(
            f"{absent} of {len(planted)} canaries are not in the forget set: a model that was not asked to forget "
            "them tells nothing. Add `canaries.members` to it."
        )
    if not found.any():
        raise SplitError(
            "The forget set holds nothing but canaries. Give the task `nonmembers=canaries.nonmembers` and evaluate "
            "without `canaries=`."
        )
    return found


def _refuse_overlap(task: Classification) -> None:
    """Raise `SplitError` if an example to forget is also among those that were never seen."""
    part = unseen_part(task.parts)
    if part is None or task.duplicates == "keep":
        return
    shared = set(_hashes(task.parts["forget"])) & set(_hashes(task.parts[part]))
    if shared:
        raise SplitError(
            f"{len(shared)} examples to forget are also in the {part} set, input and label: what was trained on "
            f"cannot stand for what was never seen. Take them out, or pass `duplicates='keep'` to the task."
        )


def _hashes(source: Source) -> list[bytes]:
    return [h for batch in Batches(source, 512).iterate() for h in batch_hashes(*unpack(batch))]
