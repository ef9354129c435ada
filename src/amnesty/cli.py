"""The command `amnesty`."""

from __future__ import annotations

import shlex
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from amnesty.errors import AmnestyError, InterruptedRunError, InvalidInputError, NonFiniteError

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
    """Unlearn handwritten digits: a class, a random tenth, and a poisoned batch, with six methods."""
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
def unlearn(
    request: Annotated[Path | None, typer.Argument(help="File of the request.", metavar="REQUEST.yaml")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the result, in place of the request's.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A value of the request: method.epochs=5. Repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Load and check everything, then stop.")] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a request that runs as it is.")] = False,
) -> None:
    """Make a model forget, as a request file says, and leave a folder with the model, its scores and a record.

    Everything is checked before anything is written. Ctrl-C stops after the step under way and saves the run;
    `--resume` goes on, and ends in the same bits as if it had never stopped.
    """
    if example:
        from amnesty.requests.example import example as text

        print(text(), end="")
        return
    if request is None:
        raise InvalidInputError(
            "`amnesty unlearn` needs a request: `amnesty unlearn --example > request.yaml` writes one that runs."
        )
    _unlearn(request, out, changes or [], resume, check)


def _unlearn(path: Path, out: Path | None, changes: list[str], resume: bool, only_check: bool) -> None:
    from amnesty.reports import show_plan, show_request
    from amnesty.requests.checking import read_request
    from amnesty.requests.facts import plan
    from amnesty.requests.preparing import prepare
    from amnesty.requests.run_folder import RunFolder
    from amnesty.requests.running import check_packages

    asked = read_request(path, changes, out)
    folder = RunFolder(asked.out, asked)
    check_packages()
    if resume and folder.finished:
        folder.check_request()
        folder.sweep()
        console.print("This run is finished.")
    else:
        folder.check(resume)
        with console.status("Starting") as status:
            prepared = prepare(asked, lambda word: status.update(escape(word)))
        show_plan(console, plan(prepared))
        if only_check:
            console.print("Everything that the request names is there and fits. Nothing was written.")
            return
        words = ["amnesty", "unlearn", path, "--out", asked.out, "--resume"]
        words += [word for change in changes for word in ("--set", change)]
        _run(prepared, folder, resume, shlex.join(map(str, words)))
    show_request(console, asked.out)


def _run(prepared: Any, folder: Any, resume: bool, again: str) -> None:
    """Run what was prepared; where it ends early, say how to go on: ``again`` is the command for it."""
    from amnesty.requests.running import run, supervised

    came: int | None = None
    try:
        with supervised(prepared.method, console) as (watch, stop):
            try:
                run(prepared, resume=resume, watch=watch, stop=stop)
            finally:
                came = stop.signal
    except InterruptedRunError as error:
        _end(f"stopped after step {error.step}; the run is saved. Go on with: {again}", _code(came))
    except KeyboardInterrupt:  # a second Ctrl-C
        _end(f"stopped at once; what was saved before is whole. Go on with: {again}", _code(signal.SIGINT))
    except OSError as error:
        if not folder.unfinished:
            raise
        _end(f"{error}\namnesty: what was saved before is whole. Go on with: {again}", 2)


def _code(number: int | None) -> int:
    """Return the exit code of what a signal has ended, by custom."""
    return 128 + (signal.SIGINT if number is None else number)


def _end(message: str, code: int) -> NoReturn:
    print(f"amnesty: {message}", file=sys.stderr)
    raise typer.Exit(code)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    key: Annotated[Path | None, typer.Option(help="Public key file that must have signed it.")] = None,
    identity: Annotated[str | None, typer.Option(help="Who must have signed it, by sigstore.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Who vouches for that identity.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Of audit.json, as you noted it.")] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Load model and data as the request names them, and score again.")
    ] = False,
) -> None:
    """Check a run's folder: its record, every file, the signature, and with --data the scores themselves.

    The exit code is 0 where everything holds, 1 where something does not, and 2 where there is nothing to check.
    `--data` may run functions that the request names: use it on folders whose origin you trust.
    """
    from amnesty.requests import again
    from amnesty.requests.verifying import verify as look

    with console.status("Verifying"):
        found = look(
            folder,
            key=key,
            identity=identity,
            issuer=issuer,
            sha256=sha256,
            data=data,
            reevaluate=again.reevaluated if data else None,
            datasets=again.datasets if data else None,
        )
    console.print(found.text, markup=False, highlight=False, soft_wrap=True)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a demonstration or of a run.")],
    out: Annotated[Path | None, typer.Option(help="File to write the page to, in place of report.html.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write another page over the one that a record has the hash of.")
    ] = False,
) -> None:
    """Write report.html anew from the files of a finished run, and show its tables."""
    from amnesty.reports import show, write_page_of

    page = write_page_of(folder, out, force=force)
    show(console, folder)
    console.print(f"Written: [bold]{escape(str(page))}[/bold]")


@app.command()
def evaluate(
    targets: Annotated[
        list[Path] | None, typer.Argument(help="Folders of runs, or weights files.", metavar="RUN|MODEL")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Function that makes the `Classification`: package.module:name or file.py:name."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Weights of a model retrained without the forget set.")
    ] = None,
    second_reference: Annotated[Path | None, typer.Option(help="Weights of another such model: the floor.")] = None,
    canaries: Annotated[str | None, typer.Option(help="Function that makes the planted `Canaries`.")] = None,
    also: Annotated[
        list[str] | None, typer.Option(help="Further measures: compat, relearning, teachers. Repeatable.")
    ] = None,
    rank_by: Annotated[
        str | None,
        typer.Option(help="Measure that methods are ranked by, over several seeds: by default average_gap."),
    ] = None,
    distance: Annotated[
        bool, typer.Option("--distance", help="Rank by its distance to the retrained model.")
    ] = False,
    per_seed: Annotated[bool, typer.Option("--per-seed", help="Show every seed, too.")] = False,
    out: Annotated[Path | None, typer.Option(help="New folder for the scores of weights files.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the draws of the tests: by default 0. A run has its own.")
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Try every measure on models whose place is known.")
    ] = False,
) -> None:
    """Measure what a model still knows of the forget set, what it kept, and what these numbers allow to be said.

    RUN is a folder with a scores.json, such as `amnesty demo` writes, or one that holds such folders: its measures
    are taken again from the stored answers, or from its models with `--also`, `--task` or `--canaries`, and its
    scores.json is written anew. The same scenario with several seeds is summarised and ranked. MODEL is a weights
    file (safetensors), to be scored on the task that `--task` makes.
    """
    from amnesty.reports import evaluating as show
    from amnesty.studies import evaluate_options as options
    from amnesty.studies import evaluating as do

    wanted = options.checked_also(also or ())
    for_runs: dict[str, Any] = {"rank_by": rank_by, "distance": distance or None, "per_seed": per_seed or None}
    if self_test:
        options.refuse_options("the self-test", also=also or None, out=out, **for_runs)
        with console.status("Starting") as status:
            found = do.tested(targets or (), task, reference, second_reference, canaries, seed or 0, status.update)
        show.self_test(console, found)
    elif targets and all(path.is_dir() for path in targets):
        options.refuse_options("runs", reference=reference, second_reference=second_reference, out=out, seed=seed)
        by, scenarios = rank_by or "average_gap", do.find_runs(targets)
        options.check_ranking(by, distance, scenarios)
        made = do.made_for((run for runs in scenarios.values() for run in runs), task, canaries)
        for name, runs in scenarios.items():
            with console.status(f"{escape(name)}: taking every measure"):
                rows = [do.evaluate_run(run, wanted, *made) for run in runs]
            show.runs(console, name, [run.document for run in runs], rows, by, distance, per_seed)
    else:
        options.refuse_options("weights files", **for_runs)
        with console.status("Taking every measure"):
            document, scores = do.evaluated(
                targets or (), task, reference, second_reference, canaries, wanted, out, seed or 0
            )
        show.scores(console, {**document, "methods": {name: one.own for name, one in scores.items()}})
        if out is not None:
            console.print(f"Written: [bold]{escape(str(out))}[/bold]")


@app.command()
def measures(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page of the docs.")] = False,
) -> None:
    """List the measures: what each says, what it needs, and whether methods may be ranked by it."""
    from amnesty.reports.measure_list import measures_table, page

    if markdown:
        print(page(), end="")
        return
    console.print(measures_table())


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="One method, to see all of its settings.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the gallery of the docs.")] = False,
) -> None:
    """List the methods: what they are, what they need (or use, if given), where they come from."""
    from amnesty import gallery
    from amnesty.methods import METHODS, method_named

    if markdown:
        print(gallery.page(METHODS), end="")
        return
    if name is not None:
        _show_method(method_named(name))
        return
    table = Table(Column(no_wrap=True), "", box=None, show_header=False, pad_edge=False)
    for key, method in METHODS.items():
        about = method.about
        source = ", ".join(str(x) for x in (about.authors, about.year, about.paper) if x)
        table.add_row(f"[bold]{key}[/bold]", escape(gallery.line(method)))
        table.add_row(f"  {about.short}", f"[dim]{escape(source)}; needs {escape(gallery.needs(method))}[/dim]")
    console.print(table)
    console.print("Settings and sources of one: [bold]amnesty methods NAME[/bold]")


def _show_method(method: Any) -> None:
    import inspect

    from amnesty import gallery

    console.print(f"[bold]{method.__name__}[/bold]: {method.about.title}\n")
    console.print(inspect.cleandoc(method.__doc__ or ""), markup=False, highlight=False)
    table = Table("Setting", "Default", title="Settings", title_justify="left")
    for setting, default in gallery.settings(method).items():
        table.add_row(setting, default)
    console.print()
    console.print(table)
    shared = [base.__name__ for base in gallery.SHARING if issubclass(method, base)]
    if shared:
        console.print(f"What it shares with others is told in docs/methods.md: {', '.join(shared)}.")


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
    """Run the command; bad input gives one message and exit code 2, a run that failed 1, a stopped one 130 or 143."""
    try:
        app()
    except (AmnestyError, OSError) as error:
        print(f"amnesty: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, NonFiniteError) else 2)
