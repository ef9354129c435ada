"""Named numbers about one model, and what they allow to be said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from amnesty.evaluation.answers import Answers
from amnesty.evaluation.findings import Finding, findings
from amnesty.evaluation.measures import is_own, missing


class Scores(Mapping[str, float]):
    """Named numbers, fractions from 0 to 1 unless said otherwise; `amnesty.evaluation.MEASURES` says what each means.

    A measure that could not be taken is absent, and asking for it says what it needs. Beside a measure ``m`` stand,
    where there are such:

    - ``m_low``, ``m_high``: its 95 % interval over the examples; ``m_count``: how many there were; ``m_against``: how
      many unseen ones they were compared with.
    - ``m_original``: the same of the model before unlearning, for every measure of what is remembered. Where the
      original is not detected either, a test shows nothing.
    - ``m_reference``: the same of the retrained model; ``m_null``: of a second retrained one, the floor below which
      differences are noise. ``average_gap_null`` is the gap between those two.

    They cannot be changed, and equal any mapping with the same numbers.

    Attributes:
        answers: the model's answers by part of the data, example by example; empty where they are not known.
        absent: measure that was asked for -> why it could not be taken.

    Example:
        >>> scores = Scores({"forget_accuracy": 0.25, "unlearning_accuracy": 0.75})
        >>> scores["forget_accuracy"], scores.get("membership_auc"), dict(scores) == scores
        (0.25, None, True)
        >>> scores["average_gap"]
        Traceback (most recent call last):
          ...
        amnesty.errors.MissingReferenceError: `average_gap` compares with a retrained model; pass `reference=` to ...
    """

    __slots__ = ("_values", "absent", "answers")

    def __init__(
        self,
        values: Mapping[str, float],
        answers: Mapping[str, Answers] | None = None,
        absent: Mapping[str, str] | None = None,
    ) -> None:
        self._values = {name: float(value) for name, value in values.items()}
        self.answers: Mapping[str, Answers] = dict(answers or {})
        self.absent: Mapping[str, str] = dict(absent or {})

    def __getitem__(self, name: str) -> float:
        if name in self._values:
            return self._values[name]
        raise missing(name, self._values, self.absent)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Scores({self._values})"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the numbers allow to be said, question by question; see `amnesty.evaluation.findings`."""
        return findings(self)

    @property
    def own(self) -> dict[str, float]:
        """The model's own numbers with their intervals, without those of other models beside them."""
        return {name: value for name, value in self._values.items() if is_own(name)}
