from pathlib import Path

from typer.testing import CliRunner

from amnesty.cli import app
from amnesty.evaluation import MEASURES
from amnesty.reports.measure_list import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_the_docs_is_the_table():
    made = CliRunner().invoke(app, ["measures", "--markdown"]).output
    assert made == page() == (DOCS / "measures.md").read_text(encoding="utf-8"), (
        "amnesty measures --markdown > docs/..."
    )


def test_the_terminal_lists_all():
    text = CliRunner().invoke(app, ["measures"], env={"COLUMNS": "220"}).output
    assert all(key in text for key in MEASURES)


def test_the_guide_tells_of_every_measure_that_is_not_in_every_table():
    guide = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    told = [
        key for key, measure in MEASURES.items() if measure.needs in ("canaries", "relearning", "compat", "reference")
    ]
    assert [key for key in told if f"`{key}`" not in guide] == []
