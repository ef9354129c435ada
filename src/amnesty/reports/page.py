"""The HTML page: one file that needs no network and no other file."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from amnesty.errors import MissingExtraError, ReportError
from amnesty.evaluation.measures import MEASURES
from amnesty.files import write_text
from amnesty.reports.read import read_scenarios
from amnesty.reports.scenario import Scenario
from amnesty.reports.verdict import TOLERANCE

if TYPE_CHECKING:
    from jinja2 import Template


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report on all scenarios of a folder, and return its path.

    The page appears whole or not at all: it is written under a temporary name and renamed. The same files give
    the same bytes.

    Args:
        folder: A scenario's folder, or a folder of such folders; see `read_scenarios`.
        out: The file to write; `folder` / "report.html" unless given.

    Raises:
        ReportError: The folder cannot be understood, or `out` is a folder.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    folder = Path(folder)
    out = folder / "report.html" if out is None else Path(out)
    check_extra()
    if out.is_dir():
        raise ReportError(f"`out` must be the path of a file, but {str(out)!r} is a folder.")
    page = render(read_scenarios(folder))
    write_page(out, page.encode("utf-8", errors="replace"))  # JSON may hold half a surrogate pair
    return out


def write_page(out: Path, page: bytes) -> None:
    """Write a page, UTF-8, as a whole; its folder is made where there is none."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page.decode("utf-8"))


def check_extra() -> None:
    """Raise `MissingExtraError` unless all packages of the extra `report` are installed."""
    for package in ("matplotlib", "jinja2"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "report", "The HTML report")


def render(scenarios: Sequence[Scenario]) -> str:
    """The page on the scenarios, as text."""
    from markupsafe import Markup

    from amnesty.reports.view import view

    names = [scenario.scores.title for scenario in scenarios]
    text: str = template("page.html.j2").render(
        title=names[0] if len(names) == 1 else ", ".join(names),
        css=Markup(resource("page.css")),
        views=[view(scenario, f"s{at}") for at, scenario in enumerate(scenarios, start=1)],
        measures=[m for m in MEASURES.values() if any(each.scores.has(m.key) for each in scenarios)],
        tolerance=f"{100 * TOLERANCE:g}",
    )
    return text


def template(name: str) -> Template:
    """A template of this room; whatever it is given is escaped, unless it is marked as HTML."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(loader=FunctionLoader(resource), autoescape=True, undefined=StrictUndefined).get_template(name)


def resource(name: str) -> str:
    """The text of a file of this room."""
    return resources.files("amnesty.reports").joinpath(name).read_text(encoding="utf-8")
