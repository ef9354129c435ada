"""The scores as a table: for the terminal, and as plain cells for the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amnesty.evaluation.measure import Measure
from amnesty.evaluation.measures import MEASURES, base
from amnesty.reports.measures import COLUMNS
from amnesty.reports.read import parse_scores
from amnesty.reports.scenario import ORIGINAL, Scores
from amnesty.reports.words import DASH, duration, method_name, number, percent, points, printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

LEVELS = (
    0.005,
    0.02,
    0.10,
)  # half a point, two points, ten points: the bounds of the four shades of distance


@dataclass(frozen=True)
class Cell:
    """One number: as text, with the difference to the reference, and how far that is (0 near .. 3 far)."""

    text: str
    difference: str = ""
    level: int | None = None


@dataclass(frozen=True)
class Row:
    """One method; `role` is "original", "reference", "floor" (retrained again) or "method"."""

    method: str
    name: str
    role: str
    nearest: bool
    cells: tuple[Cell, ...]


def columns(scores: Scores) -> tuple[Measure, ...]:
    """The known measures for which any method has a number."""
    return tuple(measure for measure in COLUMNS if scores.has(measure.key))


def rows(scores: Scores) -> list[Row]:
    """All methods in reading order, each with a cell per column."""
    return [
        Row(
            method=method,
            name=method_name(method),
            role=_role(scores, method),
            nearest=method in scores.nearest,
            cells=tuple(cell(scores, method, measure) for measure in columns(scores)),
        )
        for method in scores.rows
    ]


def _role(scores: Scores, method: str) -> str:
    return {scores.reference: "reference", scores.floor: "floor", ORIGINAL: "original"}.get(method, "method")


def cell(scores: Scores, method: str, measure: Measure) -> Cell:
    """The cell of a method and a measure."""
    value = scores.value(method, measure.key)
    if measure.key == "seconds":
        return Cell(duration(value), _times(scores, method))
    if measure.key == "average_gap":
        if method == scores.reference:
            return Cell(DASH if value is None else number(value))
        return Cell(number(value), "", None if value is None else distance_level(value))
    if method == scores.reference or not measure.compared:
        return Cell(percent(value))
    gap = scores.gap(method, measure.key)
    return Cell(percent(value), "" if gap is None else points(gap), None if gap is None else distance_level(gap))


def distance_level(gap: float) -> int:
    """The shade of a distance to the reference: 0 up to half a point, 1 up to two, 2 up to ten, 3 beyond.

    >>> [distance_level(gap) for gap in (0.005, -0.01, 0.1, -0.5)]
    [0, 1, 2, 3]
    """
    return sum(round(abs(gap), 6) > level for level in LEVELS)


def _times(scores: Scores, method: str) -> str:
    ours, theirs = scores.value(method, "seconds"), scores.value(scores.reference, "seconds")
    if method in (ORIGINAL, scores.reference) or ours is None or not theirs:
        return ""
    return f"{ours / theirs:.2f}\N{MULTIPLICATION SIGN}"


def other_measures(scores: Scores, intervals: bool = True) -> list[tuple[str, list[str]]]:
    """Measures beyond the columns: the title, and one text a method in reading order, if asked with its interval."""
    recorded = {key for values in scores.methods.values() for key in values}
    known = {measure.key for measure in COLUMNS} | {"unlearning_accuracy"}  # which is one minus the forget accuracy
    keys = [key for key in recorded - known if base(key) == key]
    order = list(MEASURES)
    keys.sort(key=lambda key: (order.index(_whole(key)) if _whole(key) in MEASURES else len(order), key))
    titles = {key: _title(key) for key in keys}
    return [(titles[key], [_plain(scores, method, key, intervals) for method in scores.rows]) for key in keys]


def _whole(key: str) -> str:
    """The measure that a number is a part of: of one concept, or of one category."""
    return key if key in MEASURES else key.partition("/")[0]


def _title(key: str) -> str:
    if key in MEASURES or _whole(key) not in MEASURES:
        return MEASURES[key].title if key in MEASURES else key
    return f"{MEASURES[_whole(key)].title}: {key.partition('/')[2]}"


def _plain(scores: Scores, method: str, key: str, interval: bool) -> str:
    value, low, high = (scores.value(method, key + end) for end in ("", "_low", "_high"))
    if value is None:
        return DASH
    text = f"{round(value, 6):.3g}"
    return text if low is None or high is None or not interval else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def scores_table(scores: Scores | Mapping[str, Any]) -> Table:
    """A table of a scores.json for the terminal: percent with two digits, differences in points, seconds.

    Args:
        scores: The content of a scores.json, checked (`Scenario.scores`) or as it was loaded.

    Raises:
        ReportError: The content is of another schema or type.

    >>> scores_table({"schema": 1, "methods": {"munba": {"forget_accuracy": 0.5}}}).row_count
    1
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    parsed = scores if isinstance(scores, Scores) else parse_scores(scores, "`scores`")
    caption = "Percent"
    if parsed.reference is not None:
        caption = f"Percent; below, points from {method_name(parsed.reference).lower()} (\N{BLACK STAR}), the target"
    if parsed.nearest:
        caption += "; bold: nearest to it"
    if parsed.floor is not None:
        caption += f"; gaps below that of {method_name(parsed.floor).lower()} are noise"
    elif parsed.reference is not None:
        caption += "; no second retrained model, hence no floor: how small a gap is noise is not known"
    table = Table(
        title=Text(printable(parsed.title)) if parsed.title else None,
        caption=Text(printable(caption)),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("Method", min_width=10)
    for measure in columns(parsed):
        table.add_column(measure.short, justify="right", no_wrap=True)
    for row in rows(parsed):
        style = {"reference": "green", "floor": "green", "original": "dim"}.get(
            row.role, "bold" if row.nearest else ""
        )
        name = f"{row.name} \N{BLACK STAR}" if row.role == "reference" else row.name
        table.add_row(Text(printable(name)), *(_stack(each) for each in row.cells), style=style)
    return table


def findings_table(
    scores: Scores,
    methods: Sequence[str] | None = None,
    named: bool = True,
    asked: Callable[[str], str] = str,
) -> Table:
    """What the numbers of each method allow to be said, for the terminal.

    ``named`` gives the method, too; ``asked`` says a question in words.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heads = ("Method", "Question", "Answer", "Because")[0 if named else 1 :]
    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for method in scores.unlearned if methods is None else methods:
        for at, found in enumerate(scores.findings(method)):
            style = {"not detected": "green", "kept": "green", "inconclusive": "yellow"}.get(found.answer, "red")
            cells = [method_name(method) if at == 0 else "", asked(found.question), found.answer, found.reason]
            texts = [Text(printable(cell), style=style if i == 2 else "") for i, cell in enumerate(cells)]
            table.add_row(*texts[0 if named else 1 :])
    return table


def _stack(content: Cell) -> Text:
    from rich.text import Text

    text = Text(content.text.replace("\N{NARROW NO-BREAK SPACE}%", ""), justify="right")
    return text.append(f"\n{content.difference}", style="dim") if content.difference else text
