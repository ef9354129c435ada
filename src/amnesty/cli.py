"""The command `amnesty`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from amnesty.errors import AmnestyError

app = typer.Typer(
    help="Make a trained PyTorch model forget chosen data, keep the rest, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of data, training and unlearning.")] = 0,
) -> None:
    """Unlearn handwritten digits: a class, a random tenth, and a poisoned batch, with every method."""
    from amnesty.reports import check_extra, read_scenarios, scores_table, write_report
    from amnesty.studies import digits

    check_extra()
    digits.check_folder(out)
    with console.status("Starting") as status:
        digits.run(out, seed, status.update)
        page = write_report(out)
    for scenario in read_scenarios(out):
        console.print(scores_table(scenario.scores))
    console.print(f"The whole story, for people: [bold]{page}[/bold]")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a demonstration or of a run.")]) -> None:
    """Write report.html anew from the files of a finished run, and show its tables."""
    from amnesty.reports import read_scenarios, scores_table, write_report

    page = write_report(folder)
    for scenario in read_scenarios(folder):
        console.print(scores_table(scenario.scores))
    console.print(f"Written: [bold]{page}[/bold]")


@app.command()
def methods() -> None:
    """List the methods: what they are, what they need (or use, if given), where they come from."""
    from amnesty.methods import METHODS

    table = Table(Column("Name", no_wrap=True), "Method", "Needs", "Source", "In one line")
    for name, method in METHODS.items():
        about, line = method.about, (method.__doc__ or "").strip().splitlines()[0].replace("``", "")
        needs = [*about.needs, *(f"({part})" for part in about.uses)]
        table.add_row(name, about.title, ", ".join(needs), about.source, line)
    console.print(table)


def _show_version(asked: bool) -> None:
    if asked:
        console.print(f"amnesty {version('amnesty')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Nothing but the options that every command shares."""


def main() -> None:
    """Run the command; bad input gives one message and exit code 2."""
    try:
        app()
    except (AmnestyError, OSError) as error:
        print(f"amnesty: {error}", file=sys.stderr)
        sys.exit(2)
