"""What a run tells while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Record = dict[str, Any]
"""One line of the history: ``step`` and ``epoch`` from 1, ``lr``, and per player ``<name>_loss``,
``<name>_norm`` (length of its gradient) and ``<name>_weight``; with two players their ``cosine``; the
``length`` of the update, and whether the point was ``stationary``."""

Watch = Callable[[Record, int], None]
"""Called after every step with its record and the total number of steps."""


@contextmanager
def progress_bar(title: str, console: Console | None = None) -> Iterator[Watch]:
    """Show a bar with the players' losses, their cosine and their weights, by default on standard output."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, state="")

        def watch(record: Record, total: int) -> None:
            bar.update(task, total=total, completed=record["step"], state=describe(record))

        yield watch


def describe(record: Record) -> str:
    """Return losses, cosine and weights of one step as a short line.

    >>> describe({"step": 1, "forget_loss": 2.5, "forget_weight": 0.25, "cosine": -0.5})
    'forget 2.500 x0.25  cos -0.50'
    """
    names = [key.removesuffix("_loss") for key in record if key.endswith("_loss")]
    parts = [f"{n} {record[f'{n}_loss']:.3f} x{record[f'{n}_weight']:.2g}" for n in names]
    if "cosine" in record:
        parts.append(f"cos {record['cosine']:+.2f}")
    return "  ".join(parts)
