"""The same methods on the same request over several seeds: means, spread, ranks, and how far that carries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from amnesty.errors import InvalidInputError, MissingReferenceError
from amnesty.evaluation.gaps import (
    PAPER_PARTS,
    GapFloor,
    average_gap_of_means,
    average_gap_paired,
    gap_floor,
    signed_gaps,
)
from amnesty.evaluation.measures import MEASURES, criterion, is_own, measure_named
from amnesty.evaluation.ranking import Ranking, rank
from amnesty.evaluation.statistics import Comparison, Summary, compare, summarise

ByMethod = Mapping[str, Mapping[str, float]]
"""Name of a method -> its numbers, for one seed."""


@dataclass(frozen=True)
class OverSeeds:
    """What several seeds say; see `over_seeds`.

    Attributes:
        summaries: method -> measure -> mean, deviation and interval over the seeds.
        gap_of_means: method -> the average gap as papers take it: of the means; ``None`` without a reference. A
            method that shares no measure with it is left out, here and in the next two.
        gap_paired: method -> mean over seeds of each seed's average gap.
        signed_gaps: method -> part of the gap -> mean over seeds of the signed difference to the retrained model.
        gap_as_published: method -> the average gap of the papers' four, UA, RA, TA and MIA, of the means; ``None``
            where they were not all taken (``also=["compat"]``).
        floor: the same two of a second retrained model; ``None`` without one.
        ranking: of the methods by the criterion; ``None`` for fewer than two.
        against_best: method -> its values of the criterion minus those of the method ranked first, each as lower is
            better: above 0 it is worse.
        criterion: the measure that was ranked by. by: the same in words.
        count: number of seeds.
        unranked: why there is no ranking; empty where there is one.
    """

    summaries: Mapping[str, Mapping[str, Summary]]
    gap_of_means: Mapping[str, float] | None
    gap_paired: Mapping[str, float] | None
    signed_gaps: Mapping[str, Mapping[str, float]] | None
    gap_as_published: Mapping[str, float] | None
    floor: GapFloor | None
    ranking: Ranking | None
    against_best: Mapping[str, Comparison]
    criterion: str
    by: str
    count: int
    unranked: str = ""

    @property
    def statement(self) -> str:
        """On how many seeds the ranking rests, and what they can carry."""
        seeds = f"{self.count} seed{'s' if self.count != 1 else ''}"
        if self.ranking is None:
            return f"{seeds}; {self.unranked}."
        return f"Ranked by {self.by}, {seeds}. {self.ranking.statement}"


def over_seeds(
    many: Sequence[ByMethod],
    *,
    reference: str | None = "retrain",
    floor: str | None = "retrain_again",
    original: str = "original",
    by: str = "average_gap",
    distance: bool = False,
    seed: int = 0,
) -> OverSeeds:
    """Summarise the scores of several seeds and rank the methods, paired by seed.

    Args:
        many: for each seed the numbers of every method; methods that some seed lacks are left out. So are measures
            that some seed lacks, or has no finite number of.
        reference: name of the retrained model among them.
        floor: name of a second one.
        original: name of the model before unlearning.
        by: the measure to rank by; see `amnesty.evaluation.criterion`.
        distance: rank by ``|measure - that of the retrained model|`` instead, which any measure allows.
        seed: of the resampling.

    Raises:
        InvalidInputError: no seed, no method that all seeds have, or a measure that must not be ranked by.
        MissingReferenceError: ``distance`` without a reference.
    """
    if not many:
        raise InvalidInputError("Give the scores of at least one seed.")
    names = [name for name in many[0] if all(name in scores for scores in many)]
    if not names:
        raise InvalidInputError("No method occurs in all of the seeds: there is nothing to compare.")
    measure_named(by)
    if not distance:
        criterion(by)
    many = [{name: _finite(scores[name]) for name in names} for scores in many]
    reference, floor = (side if side in names else None for side in (reference, floor))
    ranked = [name for name in names if name not in (original, reference, floor)]
    table = _criterion(many, ranked, reference, by, distance)
    ranking = rank(table, seed=seed) if len(table) > 1 else None
    best = next(iter(ranking.mean_ranks)) if ranking is not None else None
    gaps = _gaps(many, names, reference)
    return OverSeeds(
        summaries={name: _summaries(_of(many, name)) for name in names},
        gap_of_means=gaps and gaps.of_means,
        gap_paired=gaps and gaps.paired,
        signed_gaps=gaps and gaps.signed,
        gap_as_published=gaps and gaps.published,
        floor=_floor(many, reference, floor),
        ranking=ranking,
        against_best={
            name: compare(table[name], table[best], seed=seed) for name in table if best not in (None, name)
        },
        criterion=by,
        by=f"distance of {by} to the retrained model" if distance else by,
        count=len(many),
        unranked="" if ranking is not None else _reason(ranked, table, reference, by, distance),
    )


def _finite(scores: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in scores.items() if math.isfinite(value)}


def _of(many: Sequence[ByMethod], name: str) -> list[Mapping[str, float]]:
    return [scores[name] for scores in many]


def _summaries(rows: Sequence[Mapping[str, float]]) -> dict[str, Summary]:
    shared = [key for key in rows[0] if all(key in row for row in rows)]
    return {key: summarise([row[key] for row in rows]) for key in shared if key in MEASURES or is_own(key)}


class _Gaps(NamedTuple):
    of_means: dict[str, float]
    paired: dict[str, float]
    signed: dict[str, dict[str, float]]
    published: dict[str, float] | None


def _gaps(many: Sequence[ByMethod], names: Sequence[str], reference: str | None) -> _Gaps | None:
    if reference is None:
        return None
    targets, found = _of(many, reference), _Gaps({}, {}, {}, None)
    for name in names:
        rows = _of(many, name)
        with suppress(MissingReferenceError):  # they share no part of the gap
            found.of_means[name] = average_gap_of_means(rows, targets)
            found.paired[name] = average_gap_paired(rows, targets)
            found.signed[name] = _signed(rows, targets)
    own = {name: _of(many, name) for name in names}
    if not all(part in row for rows in own.values() for row in rows for part in PAPER_PARTS):
        return found
    published = {name: average_gap_of_means(rows, targets, PAPER_PARTS) for name, rows in own.items()}
    return found._replace(published=published)


def _signed(rows: Sequence[Mapping[str, float]], targets: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over seeds of each part's signed gap, for the parts that all seeds have."""
    gaps = [signed_gaps(row, target) for row, target in zip(rows, targets, strict=True)]
    shared = [part for part in gaps[0] if all(part in one for one in gaps)]
    return {part: sum(one[part] for one in gaps) / len(gaps) for part in shared}


def _floor(many: Sequence[ByMethod], reference: str | None, floor: str | None) -> GapFloor | None:
    if reference is None or floor is None:
        return None
    with suppress(MissingReferenceError):  # the two share no part of the gap
        return gap_floor(_of(many, reference), _of(many, floor))
    return None


def _reason(
    ranked: Sequence[str], table: Mapping[str, list[float]], reference: str | None, by: str, distance: bool
) -> str:
    """Say why nothing was ranked."""
    if len(ranked) < 2:
        return "fewer than two methods, nothing to rank"
    if reference is None and MEASURES[by].needs == "reference":
        return f"`{by}` compares with a retrained model, and there is none: nothing to rank"
    only = f"only {next(iter(table))} has" if table else "no method has"
    beside = " beside that of the retrained model" if distance else ""
    return f"{only} `{by}` in every seed{beside}: nothing to rank"


def _criterion(
    many: Sequence[ByMethod], names: Sequence[str], reference: str | None, by: str, distance: bool
) -> dict[str, list[float]]:
    """Return for each method a value per seed, lower is better; only methods that always have the measure."""
    if distance and reference is None:
        raise MissingReferenceError(f"The distance of `{by}` to the retrained model needs that model's scores.")
    measure, found = MEASURES[by], {}
    for name in names:
        rows = _of(many, name)
        if not all(by in row for row in rows):
            continue
        targets = [scores[reference].get(by, float("nan")) if reference else float("nan") for scores in many]
        pairs = zip((row[by] for row in rows), targets, strict=True)
        values = [abs(v - t) if distance else -measure.goodness(v, t) for v, t in pairs]
        if all(
            map(math.isfinite, values)
        ):  # not so where the retrained model lacks the measure that it is the aim of
            found[name] = values
    return found
