"""The table of measures for people: in the terminal, and as a page of the docs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amnesty.evaluation.measures import MEASURES

if TYPE_CHECKING:
    from rich.table import Table

INTRODUCTION = """# The measures

Made from the one table of measures by `amnesty measures --markdown`. Fractions from 0 to 1 in files unless said
otherwise. *Ranks* says whether methods may be ranked by the measure itself, or else what it cannot see; its distance
to the retrained model ranks in any case. What each needs, and how to read them together:
[evaluation.md](evaluation.md).
"""

_IN = {"nats": ", in nats", "bits": ", in bits", "ratio": ", a ratio", "seconds": ", in seconds"}


def page() -> str:
    """Return the measures as a page of Markdown."""
    lines = ["| measure | what it says | needs | ranks |", "|---|---|---|---|"]
    for key, measure in MEASURES.items():
        needs = "" if measure.needs == "nothing" else measure.needs
        ranks = f"no: {measure.blind}" if measure.blind else "yes"
        title = f"**{measure.title}**{_IN.get(measure.unit, '')}. {measure.meaning}"
        lines.append(f"| `{key}` | {title} | {needs} | {ranks} |")
    return "\n".join([INTRODUCTION, *lines]) + "\n"


def measures_table() -> Table:
    """Return the measures as a table for the terminal."""
    from rich import box
    from rich.table import Table

    table = Table("Measure", "What it says", "Needs", "Ranks", box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    for key, measure in MEASURES.items():
        needs = "" if measure.needs == "nothing" else measure.needs
        table.add_row(key, measure.meaning, needs, f"no: {measure.blind}" if measure.blind else "yes")
    return table
