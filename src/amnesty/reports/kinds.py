"""Folders of every kind: which page is theirs, and which tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from amnesty.errors import ReportError
from amnesty.reports.page import write_report
from amnesty.reports.read import read_scenarios
from amnesty.reports.request_page import write_request_report
from amnesty.reports.request_run import AUDIT, FACTS
from amnesty.reports.request_terminal import show_request
from amnesty.reports.tables import scores_table

if TYPE_CHECKING:
    from rich.console import Console

Kind = Literal["request", "scenarios"]


def kind_of(folder: Path) -> Kind:
    """Say what a folder holds: the run of a deletion request, or a scenario, or several.

    Raises:
        ReportError: it holds a part of a request's run: the run was not finished.
    """
    folder = Path(folder)
    if (folder / FACTS).is_file():
        return "request"
    if (folder / AUDIT).exists():
        raise ReportError(f"{folder} holds {AUDIT} but no {FACTS}: a file of the run is missing.")
    if (folder / "checkpoint").is_dir():
        raise ReportError(
            f"{folder} is of a run that is not finished: there is no {FACTS} in it. Go on with `--resume`."
        )
    return "scenarios"


def write_page_of(folder: Path, out: Path | None = None, *, force: bool = False) -> Path:
    """Write the page of a folder of any kind, and return its path.

    Raises:
        ReportError: see `kind_of`, `write_report` and `write_request_report`.
        MissingExtraError: as these.
    """
    if kind_of(folder) == "request":
        return write_request_report(folder, out=out, force=force)
    return write_report(folder, out)


def show(console: Console, folder: Path) -> None:
    """Show the tables of a folder of any kind."""
    if kind_of(folder) == "request":
        show_request(console, folder)
        return
    for scenario in read_scenarios(folder):
        console.print(scores_table(scenario.scores))
