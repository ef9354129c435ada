"""What a measure is: its name, its words, its range, and what it cannot see."""

from __future__ import annotations

from dataclasses import dataclass
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
    "judge",
    "real",
    "clip",
    "nudity",
]
"""What a measure cannot do without: unseen examples, a retain set, a retrained model, ..."""


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        key: in `Scores` and scores.json. title, short: for people; short for terminals. meaning: in plain words.
        aim: what counts as good where the measure is read alone; see `Aim`.
        needs: see `Needs`.
        low, high: the ends of its range. unit: ``"fraction"``, ``"nats"``, ``"bits"``, ``"ratio"``, ``"seconds"``, or
            ``"number"`` for one of no unit.
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


DESTROYED = "a destroyed model does as well as a good one"
UNTOUCHED = "the model that was never unlearned does best"
