"""What `amnesty evaluate` shows in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amnesty.evaluation import Checked, Scores, over_seeds
from amnesty.reports.read import parse_scores
from amnesty.reports.seeds import against_best_table, paper_table, seeds_table, signed_table
from amnesty.reports.tables import findings_table, other_measures, scores_table
from amnesty.reports.words import method_name, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def scores(console: Console, document: Mapping[str, Any], name: str = "") -> None:
    """Show one scores.json: the table, the further measures, and what they allow to be said."""
    found = parse_scores(document, "the scores", name)
    console.print(scores_table(found))
    others = other_measures(found, intervals=False)
    if others:
        console.print(_measures_table(found.rows, others))
    said = findings_table(found)
    if said.row_count:
        console.print(said)


def _measures_table(methods: Sequence[str], measured: Sequence[tuple[str, list[str]]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("Measure", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for method in methods:
        table.add_column(plain(method_name(method)))
    for title, cells in measured:
        table.add_row(plain(title), *map(plain, cells))
    return table


def runs(
    console: Console,
    name: str,
    documents: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Scores]],
    by: str,
    distance: bool,
    per_seed: bool = False,
) -> None:
    """Show one run in full, or several seeds of a scenario as their summary, and if asked each of them."""
    methods = [{method: one.own for method, one in found.items()} for found in rows]
    if len(rows) == 1 or per_seed:
        for document, own in zip(documents, methods, strict=True):
            scores(console, {**document, "methods": own}, name)
    reference, floor = (documents[0].get(side) for side in ("reference", "floor"))
    found = over_seeds(methods, reference=reference, floor=floor, by=by, distance=distance)
    published = paper_table(found)
    if published is not None:
        console.print(published)
    if len(rows) == 1:
        return
    title = str((documents[0].get("scenario") or {}).get("title") or name)
    console.print(seeds_table(found, title))
    for table in (signed_table(found), against_best_table(found)):
        if table is not None:
            console.print(table)
    console.print(plain(found.statement))
    if found.floor is not None:
        console.print(
            f"Floor, a second retrained model: {100 * found.floor.paired:.2f} points a seed, "
            f"{100 * found.floor.of_means:.2f} between the means. Smaller gaps are noise."
        )


def self_test(console: Console, found: Sequence[Checked]) -> None:
    """Show what every measure says of models whose place is known."""
    from rich import box
    from rich.table import Table

    heads = ("Measure", "Original", "Retrained", "again", "Destroyed", "Distance of the original", "Read alone")
    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for one in found:
        values = [f"{value:.3f}" for value in one.values.values()]
        distance = f"{one.distances['original']:.3f} (floor {one.floor:.3f})"
        table.add_row(plain(one.measure.key), *values, distance, _verdict(one))
    console.print(table)
    console.print(
        "Destroyed: an untrained network. Methods may be ranked by a measure itself only if it prefers the retrained "
        "model to the original and to the destroyed one; by its distance to the retrained model, wherever it has "
        "resolution."
    )


def _verdict(one: Checked) -> Text:
    if not one.resolution:
        return plain("no resolution on these data", "yellow")
    if one.fooled_by:
        return plain(f"refused: {' and '.join(one.fooled_by)} do as well", "red")
    return plain(f"refused: {one.measure.blind}", "red") if one.measure.blind else plain("criterion", "green")
