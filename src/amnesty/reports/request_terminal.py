"""What the terminal shows of a request: before training what will be done, afterwards what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amnesty.reports.drawn import DRAWN
from amnesty.reports.drawn_words import drawn_headline, question_of
from amnesty.reports.measures import COLUMNS
from amnesty.reports.request_run import DIFFUSION, PAGE, Facts, parse_facts, read_facts, read_scores
from amnesty.reports.request_summary import is_adapter, kept_counts, model_of
from amnesty.reports.request_view import number_of
from amnesty.reports.request_words import how_chosen, run_headline
from amnesty.reports.scenario import ORIGINAL, Scenario, Scores
from amnesty.reports.tables import findings_table
from amnesty.reports.words import duration, method_name, plain, thousands

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_COMPACT = (
    "forget_accuracy",
    "retain_accuracy",
    "holdout_accuracy",
    "holdout_forgotten_accuracy",
    "membership_auc",
    "drawn_forget_accuracy",
    "drawn_retain_accuracy",
)


def show_plan(console: Console, facts: Mapping[str, Any]) -> None:
    """Show what a request will do, before any training.

    Args:
        console: where to.
        facts: as those of `show_request`, as far as they are known, and ``model``, ``data`` and ``out``, texts.

    Raises:
        ReportError: a fact is of another type.
    """
    known = parse_facts(facts, "`facts`")
    method = f"{method_name(known.method)}, " if known.method else ""
    runs = (known.device, known.precision, "" if known.seed is None else f"seed {known.seed}")
    rows = {
        "Request": known.name,
        "Model": str(facts.get("model") or ""),
        "Data": str(facts.get("data") or ""),
        "Forget": known.asked or _forgotten(known),
        "Keep": _kept(known),
        "Method": method + how_chosen(known, will=True),
        "Settings": ", ".join(f"{name} {value}" for name, value in known.settings) if known.tuned else "",
        "Runs on": ", ".join(filter(None, runs)),
        "Result in": str(facts.get("out") or ""),
    }
    _pairs(console, rows)
    _warn(console, known)


def show_request(console: Console, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Show what came of a request: its scores before and after, what they allow to be said, and where things are.

    Args:
        console: where to.
        folder: of the finished run.
        facts: as `write_request_report` has them; those of the folder's run.json unless given.

    Raises:
        ReportError: a file is missing or cannot be understood.
    """
    folder = Path(folder)
    known = read_facts(folder) if facts is None else parse_facts(facts, "`facts`")
    scores = read_scores(folder, known)
    method = Scenario(folder, scores, method=known.method).featured
    found = () if method is None else scores.findings(method)
    console.print(plain(f"{known.name}: {known.asked}" if known.asked else known.name, "bold"))
    draws = known.task == DIFFUSION or (folder / DRAWN).is_file()
    console.print(plain(drawn_headline(scores, method) if draws else run_headline(found)))
    table = _scores(scores, method)
    if table.row_count:
        console.print(table)
    if found and method is not None:
        console.print(findings_table(scores, [method], named=False, asked=question_of if draws else str))
    for entry in known.rechecked:
        console.print(plain(f"Earlier request {entry.name}: {entry.answer} ({entry.reason})"))
    _warn(console, known)
    rows = {
        "Adapters" if is_adapter(folder) else "Unlearned model": str(model_of(folder) or folder),
        "Report": str(folder / PAGE) if (folder / PAGE).exists() else "",
        "Took": "" if known.seconds is None else f"{duration(known.seconds)}; {how_chosen(known)}",
        "Next": f"amnesty verify {shlex.quote(str(folder))}",
    }
    _pairs(console, rows)


def _scores(scores: Scores, method: str | None) -> Table:
    """The few numbers that people ask for first, a column for each model."""
    from rich import box
    from rich.table import Table

    models = [name for name in (ORIGINAL, method, scores.reference) if name is not None and name in scores.methods]
    table = Table(
        "Measure", caption="In brackets: 95 % interval", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for name in models:
        table.add_column(plain(method_name(name)), justify="right")
    for measure in COLUMNS:
        if measure.key in _COMPACT and any(scores.value(name, measure.key) is not None for name in models):
            numbers = (number_of(scores, name, measure) for name in models)
            table.add_row(plain(measure.title), *(_cell(each.text, each.interval) for each in numbers))
    return table


def _cell(text: str, interval: str) -> Text:
    found = plain(text)
    return found.append(f"\n{interval}", style="dim") if interval else found


def _forgotten(facts: Facts) -> str:
    things = "images" if facts.task == DIFFUSION else "examples"
    return "" if facts.forgotten is None else f"{thousands(facts.forgotten)} {things}"


def _kept(facts: Facts) -> str:
    kept = kept_counts(facts)
    if facts.task == DIFFUSION:
        return f"{thousands(kept['retain'])} images to train with" if "retain" in kept else ""
    return ", ".join(f"{name} {thousands(count)}" for name, count in kept.items())


def _warn(console: Console, facts: Facts) -> None:
    for text in facts.warnings:
        console.print(plain(f"Note: {text}", "yellow"))


def _pairs(console: Console, rows: Mapping[str, str]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for name, text in rows.items():
        if text:
            table.add_row(plain(name, "dim"), plain(text))
    console.print(table)
