"""What a scenario's folder says, as plain values. A number that is missing or NaN is `None`, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amnesty.evaluation.findings import Finding, findings
from amnesty.evaluation.measures import MEASURES, of_another, of_original

ORIGINAL = "original"  # the name, in every scores.json, of the model before unlearning

_LOOKING = ("judge", "real", "clip", "nudity")  # what measures of drawn images need


@dataclass(frozen=True)
class Scores:
    """The content of one scores.json; fractions in [0, 1], seconds in seconds."""

    methods: Mapping[str, Mapping[str, float]]
    reference: str | None = None
    floor: str | None = None  # a second retrained model: no method can be told to be nearer than it
    name: str = ""
    title: str = ""
    asked: str = ""
    setting: str = ""
    order: int = 0  # scenarios are shown by order, then by folder name
    counts: Mapping[str, int] = field(default_factory=dict)
    seed: int | None = None
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def value(self, method: str | None, measure: str) -> float | None:
        """The measure of a method, or None where it was not recorded or is not finite."""
        return self.methods.get(method, {}).get(measure) if method is not None else None

    def gap(self, method: str | None, measure: str) -> float | None:
        """The signed difference to the reference; None where either number is missing."""
        ours, target = self.value(method, measure), self.value(self.reference, measure)
        return None if ours is None or target is None else ours - target

    def findings(self, method: str) -> tuple[Finding, ...]:
        """What the numbers of a method allow to be said, beside those of the original and of the reference."""
        values = {**self.methods[method]}
        values |= of_original(self.methods.get(ORIGINAL, {})) if method != ORIGINAL else {}
        return findings(values | of_another(self.methods.get(self.reference or "", {}), "reference"))

    def has(self, measure: str) -> bool:
        """Whether any method recorded the measure."""
        return any(measure in values for values in self.methods.values())

    @property
    def of_images(self) -> bool:
        """Whether they are of what an image generator draws."""
        return any(measure.needs in _LOOKING and self.has(key) for key, measure in MEASURES.items())

    @property
    def judged(self) -> bool:
        """Whether a judge said what drawn images show."""
        return self.has("drawn_forget_accuracy") or self.has("drawn_retain_accuracy")

    @property
    def unlearned(self) -> tuple[str, ...]:
        """The unlearning methods, nearest to the reference first; those without a gap come last."""
        names = [name for name in self.methods if name not in (ORIGINAL, self.reference, self.floor)]
        gaps = {name: self.value(name, "average_gap") for name in names}
        return tuple(sorted(names, key=lambda name: _last_if_none(gaps[name])))

    @property
    def rows(self) -> tuple[str, ...]:
        """All methods in reading order: the original, the reference, the floor, then the unlearning methods."""
        first = dict.fromkeys(name for name in (ORIGINAL, self.reference, self.floor) if name in self.methods)
        return (*(name for name in first if name is not None), *self.unlearned)

    @property
    def nearest(self) -> frozenset[str]:
        """The unlearning methods with the lowest average gap; several when they tie."""
        gaps = {name: gap for name in self.unlearned if (gap := self.value(name, "average_gap")) is not None}
        return frozenset(name for name, gap in gaps.items() if gap == min(gaps.values()))


def _last_if_none(gap: float | None) -> float:
    return float("inf") if gap is None else gap


@dataclass(frozen=True)
class Step:
    """One step of a two-player run, one line of history.jsonl. A player that sat out leaves None."""

    step: int
    epoch: int | None = None
    forget_loss: float | None = None
    retain_loss: float | None = None
    cosine: float | None = None
    stationary: bool = False


@dataclass(frozen=True)
class Prediction:
    """What a model answers to one image."""

    label: str
    confidence: float | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """One forgotten image with the answers of the model before, after, and of the reference."""

    image: NDArray[np.uint8]  # [H, W] or [H, W, 3]
    label: str  # in the training data that is forgotten
    true_label: str
    before: Prediction | None
    after: Prediction | None
    reference: Prediction | None


@dataclass(frozen=True)
class Scenario:
    """One request to forget, and all that was recorded on it."""

    folder: Path
    scores: Scores
    history: tuple[Step, ...] = ()
    examples: tuple[Example, ...] = ()
    method: str | None = None  # whose answers the examples show

    @property
    def featured(self) -> str | None:
        """The method the page speaks about: that of the examples, or else the one nearest to the reference."""
        if self.method in self.scores.methods:
            return self.method
        return next(iter(self.scores.unlearned), None)

    @property
    def wrong_labels(self) -> bool:
        """Whether what is forgotten are wrong labels rather than images."""
        return any(example.label != example.true_label for example in self.examples)

    @property
    def things(self) -> str:
        """What one unit of data is called on the page."""
        return "images" if self.examples or self.scores.of_images else "examples"
