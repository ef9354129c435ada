"""The page of a request's run: one file that needs no network, written from the files of the run's folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amnesty.errors import ReportError
from amnesty.evaluation.measures import MEASURES
from amnesty.files import write_json
from amnesty.reports.page import check_extra, resource, template, write_page
from amnesty.reports.request_run import AUDIT, FACTS, PAGE, SCHEMA, RequestRun, parse_facts, read_request_run


def write_request_report(
    folder: Path, facts: Mapping[str, Any] | None = None, *, out: Path | None = None, force: bool = False
) -> Path:
    """Write the page of a request's run, and return its path.

    The same files give the same bytes. An audited folder keeps its page: where the new one is the same, nothing is
    written; where it is not, it is refused, since the audit holds the hash of the old one.

    Args:
        folder: holds scores.json and run.json, and as far as there are such request.yaml, history.jsonl,
            answers.parquet, forgotten.json, zero_shot.json and drawn.json.
        facts: to be written to run.json first; see `amnesty.reports.request_run.Facts`. Without them, those of the
            folder are read.
        out: the file to write; report.html in the folder unless given.
        force: write another page into an audited folder; `amnesty verify` then names report.html.

    Raises:
        ReportError: a file is missing or cannot be understood, ``out`` is a folder, or the folder is audited and its
            page would change.
        MissingExtraError: matplotlib, jinja2 or pyarrow is not installed.
        OSError: the folder cannot be written to.
    """
    folder = Path(folder)
    out = folder / PAGE if out is None else Path(out)
    check_extra()
    if out.is_dir():
        raise ReportError(f"`out` must be the path of a file, but {str(out)!r} is a folder.")
    if facts is not None:
        _write_facts(folder, facts)
    page = render(read_request_run(folder))
    if (folder / AUDIT).exists() and out.resolve() == (folder / PAGE).resolve() and out.exists():
        if page == out.read_bytes():
            return out
        if not force:
            raise ReportError(
                f"{folder}: the page would differ from the one that {AUDIT} holds the hash of. Files of the folder "
                "have changed, or the versions of Amnesty and matplotlib have. `amnesty verify` tells which files "
                "changed. Write the new page elsewhere with `--out`, or over the old one with `--force`."
            )
    write_page(out, page)
    return out


def _write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    if (folder / AUDIT).exists():
        raise ReportError(f"{folder} is audited: its {FACTS} stays as it is. Make the page without new facts.")
    content = {**facts, "schema": SCHEMA}
    parse_facts(content, "`facts`")
    write_json(folder / FACTS, content)


def render(run: RequestRun) -> bytes:
    """The page on a run, UTF-8."""
    from markupsafe import Markup

    from amnesty.reports.request_view import request_view

    text: str = template("request.html.j2").render(
        view=request_view(run),
        css=Markup(resource("page.css")),
        measures=[measure for measure in MEASURES.values() if run.scores.has(measure.key)],
    )
    return text.encode("utf-8", errors="replace")  # JSON may hold half a surrogate pair
