"""Several seeds as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amnesty.evaluation.gaps import GAP_PARTS, PAPER_PARTS
from amnesty.evaluation.measures import MEASURES
from amnesty.evaluation.statistics import Summary
from amnesty.evaluation.summary import OverSeeds
from amnesty.reports.measures import COLUMNS
from amnesty.reports.words import DASH, method_name, plain, points

if TYPE_CHECKING:
    from rich.table import Table


def seeds_table(found: OverSeeds, title: str = "") -> Table:
    """The columns of every table as mean ± deviation over the seeds, in percent, and the gap with its interval.

    >>> from amnesty.evaluation import over_seeds
    >>> scores = {"original": {"forget_accuracy": 1.0}, "munba": {"forget_accuracy": 0.5}}
    >>> seeds_table(over_seeds([scores, scores])).row_count
    2
    """
    from rich import box
    from rich.table import Table

    keys = [m for m in COLUMNS if any(m.key in row for row in found.summaries.values())]
    table = Table(title=plain(title) if title else None, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Method", no_wrap=True)
    for measure in keys:
        table.add_column(measure.short, justify="right")  # a narrow terminal wraps numbers, and cuts none
    for extra in ("Gap [95 %]", "Gap of means", "Rank [95 %]"):
        table.add_column(extra, justify="right")
    for name, summaries in found.summaries.items():
        cells = [_spread(summaries.get(measure.key), measure.unit) for measure in keys]
        table.add_row(plain(method_name(name)), *cells, _interval(summaries.get("average_gap")), *_ranks(found, name))
    count = f"{found.count} seed{'s' if found.count != 1 else ''}"
    table.caption = f"Percent, mean ± deviation over {count}; time in seconds."
    return table


def paper_table(found: OverSeeds) -> Table | None:
    """The columns of the SalUn family's tables, and tug-of-war; ``None`` where they were not all taken.

    UA, RA, TA and MIA in percent, AG in points of the means over seeds, RTE in minutes.
    """
    from rich import box
    from rich.table import Table

    if found.gap_as_published is None:
        return None
    table = Table(title="As papers print it", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Method", min_width=10)
    for head in ("UA", "RA", "TA", "MIA", "AG", "RTE", "ToW"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, gap in found.gap_as_published.items():
        row = found.summaries[name]
        shown = [_spread(row.get(part), "fraction") for part in PAPER_PARTS]
        seconds = row.get("seconds")
        minutes = DASH if seconds is None else f"{seconds.mean / 60:.2f}"
        table.add_row(
            plain(method_name(name)), *shown, f"{100 * gap:.2f}", minutes, _spread(row.get("tug_of_war"), "ratio")
        )
    table.caption = (
        "MIA: SVC on confidences, to be compared with published tables only. AG: of the means. RTE: minutes."
    )
    return table


def signed_table(found: OverSeeds) -> Table | None:
    """Which way each method misses the retrained model: the parts of the average gap with their signs, in points.

    ``None`` without a retrained model.
    """
    from rich import box
    from rich.table import Table

    if not found.signed_gaps:
        return None
    table = Table(title="Signed gaps", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Method", min_width=10)
    parts = [part for part in GAP_PARTS if any(part in row for row in found.signed_gaps.values())]
    for part in parts:
        table.add_column(MEASURES[part].short, justify="right", no_wrap=True)
    for name, gaps in found.signed_gaps.items():
        table.add_row(plain(method_name(name)), *(points(gaps.get(part)) for part in parts))
    table.caption = (
        "Points from the retrained model, mean over the seeds. Above 0 on the forget set or in membership: something "
        "is remembered; below 0: more was forgotten than retraining forgets."
    )
    return table


def against_best_table(found: OverSeeds) -> Table | None:
    """Each method against the one ranked first, paired by seed; ``None`` where nothing was ranked."""
    from rich import box
    from rich.table import Table

    if found.ranking is None:
        return None
    best = method_name(next(iter(found.ranking.mean_ranks)))
    table = Table(title=plain(f"Against {best}"), box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Method", min_width=10)
    for head in ("Difference", "95 %", "p"):
        table.add_column(head, justify="right", no_wrap=True)
    unit = MEASURES[found.criterion].unit
    scale, digits, word = (100, 2, "points") if unit == "fraction" else (1, 4, unit)
    for name, one in found.against_best.items():
        ends = None if one.low is None or one.high is None else (scale * one.low, scale * one.high)
        interval = DASH if ends is None else f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"
        table.add_row(
            plain(method_name(name)), f"{scale * one.difference:+.{digits}f}", interval, f"{one.p_value:.3g}"
        )
    smallest = min(one.smallest_p for one in found.against_best.values())
    table.caption = (
        f"By {found.by}, in {word}, paired by seed; above 0: worse than the best. p of the sign-flip test, at least "
        f"{smallest:.3g} with so many seeds, and not corrected for the number of methods."
    )
    return table


def _points(gap: float | None) -> str:
    return DASH if gap is None else f"{100 * gap:.2f}"


def _spread(summary: Summary | None, unit: str) -> str:
    if summary is None:
        return DASH
    scale = 100 if unit == "fraction" else 1
    text = f"{scale * summary.mean:.2f}"
    return text if summary.deviation is None else f"{text} ± {scale * summary.deviation:.2f}"


def _interval(summary: Summary | None) -> str:
    if summary is None or summary.low is None or summary.high is None:
        return DASH
    return f"[{100 * summary.low:.2f}, {100 * summary.high:.2f}]"


def _ranks(found: OverSeeds, name: str) -> tuple[str, str]:
    gap = _points(None if found.gap_of_means is None else found.gap_of_means.get(name))
    if found.ranking is None or name not in found.ranking.mean_ranks:
        return gap, DASH
    rank = f"{found.ranking.mean_ranks[name]:.1f}"
    if found.ranking.intervals is not None:
        low, high = found.ranking.intervals[name]
        rank += f" [{low:.1f}, {high:.1f}]"
    return gap, rank
