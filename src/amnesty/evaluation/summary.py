"""The same methods on the same request over several seeds: means, spread, ranks, and how far that carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amnesty.errors import InvalidInputError, MissingReferenceError
from amnesty.evaluation.gaps import PAPER_PARTS, GapFloor, average_gap_of_means, average_gap_paired, gap_floor
from amnesty.evaluation.measures import MEASURES, criterion, is_own, measure_named
from amnesty.evaluation.ranking import Ranking, rank
from amnesty.evaluation.statistics import Comparison, Summary, compare, summarise

_Gaps = dict[str, float] | None

ByMethod = Mapping[str, Mapping[str, float]]
"""Name of a method -> its numbers, for one seed."""


@dataclass(frozen=True)
class OverSeeds:
    """What several seeds say; see `over_seeds`.

    Attributes:
        summaries: method -> measure -> mean, deviation and interval over the seeds.
        gap_of_means: method -> the average gap as papers take it: of the means; ``None`` without a reference.
        gap_paired: method -> mean over seeds of each seed's average gap.
        gap_as_published: method -> the average gap of the papers' four, UA, RA, TA and MIA, of the means; ``None``
            where they were not all taken (``also=["compat"]``).
        floor: the same two of a second retrained model; ``None`` without one.
        ranking: of the methods by the criterion; ``None`` for fewer than two.
        against_best: method -> its values of the criterion minus those of the method ranked first.
        by: what was ranked, in words.
        count: number of seeds.
    """

    summaries: Mapping[str, Mapping[str, Summary]]
    gap_of_means: Mapping[str, float] | None
    gap_paired: Mapping[str, float] | None
    gap_as_published: Mapping[str, float] | None
    floor: GapFloor | None
    ranking: Ranking | None
    against_best: Mapping[str, Comparison]
    by: str
    count: int

    @property
    def statement(self) -> str:
        """On how many seeds the ranking rests, and what they can carry."""
        seeds = f"{self.count} seed{'s' if self.count != 1 else ''}"
        if self.ranking is None:
            return f"{seeds}; fewer than two methods, nothing to rank."
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
        many: for each seed the numbers of every method; methods that some seed lacks are left out.
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
    reference, floor = (side if side in names else None for side in (reference, floor))
    ranked = [name for name in names if name not in (original, reference, floor)]
    table = _criterion(many, ranked, reference, by, distance)
    ranking = rank(table, seed=seed) if len(table) > 1 else None
    best = next(iter(ranking.mean_ranks)) if ranking is not None else None
    against = {name: compare(table[name], table[best], seed=seed) for name in table if best not in (None, name)}
    return OverSeeds(
        {name: _summaries(_of(many, name)) for name in names},
        *_gaps(many, names, reference),
        None if floor is None or reference is None else gap_floor(_of(many, reference), _of(many, floor)),
        ranking,
        against,
        f"distance of {by} to the retrained model" if distance else by,
        len(many),
    )


def _of(many: Sequence[ByMethod], name: str) -> list[Mapping[str, float]]:
    return [scores[name] for scores in many]


def _summaries(rows: Sequence[Mapping[str, float]]) -> dict[str, Summary]:
    shared = [key for key in rows[0] if all(key in row for row in rows)]
    return {key: summarise([row[key] for row in rows]) for key in shared if key in MEASURES or is_own(key)}


def _gaps(many: Sequence[ByMethod], names: Sequence[str], reference: str | None) -> tuple[_Gaps, _Gaps, _Gaps]:
    """Return the average gaps: of the means, paired, and as published."""
    if reference is None:
        return None, None, None
    own = {name: _of(many, name) for name in names}
    targets = own[reference]
    of_means = {name: average_gap_of_means(rows, targets) for name, rows in own.items()}
    paired = {name: average_gap_paired(rows, targets) for name, rows in own.items()}
    if not all(part in row for rows in own.values() for row in rows for part in PAPER_PARTS):
        return of_means, paired, None
    published = {name: average_gap_of_means(rows, targets, PAPER_PARTS) for name, rows in own.items()}
    return of_means, paired, published


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
        found[name] = [abs(v - t) if distance else -measure.goodness(v, t) for v, t in pairs]
    return found
