import io
import math

import pytest
from rich.console import Console

from amnesty.errors import ReportError
from amnesty.reports import read_scenarios, scores_table
from amnesty.reports.words import DASH, MINUS
from tests.reports.folders import scores, write


def text_of(table, width=80):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_all_columns_fit_a_narrow_terminal():
    content = scores()
    for values in content["methods"].values():
        values["holdout_forgotten_accuracy"] = 1.0
    text = text_of(scores_table(content))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for expected in (
        "Forget one class",
        "99.73",
        f"{MINUS}0.27",
        "+100.00",
        "0.25\N{MULTIPLICATION SIGN}",
        "2.50",
        "MUNBa",
        "Brand new",
    ):
        assert expected in text


def test_takes_what_read_scenarios_gives(tmp_path):
    (scenario,) = read_scenarios(write(tmp_path))
    assert text_of(scores_table(scenario.scores)) == text_of(scores_table(scores()))


def test_missing_and_nan_are_dashes():
    content = scores(methods={"a": {"forget_accuracy": math.nan, "seconds": 1.0}, "b": {"forget_accuracy": 0.5}})
    content["reference"] = None
    lines = text_of(scores_table(content)).splitlines()
    assert [line.split() for line in lines if line.strip().startswith(("A ", "B "))] == [
        ["A", DASH, "1.00", "s"],
        ["B", "50.00", DASH],
    ]


def test_names_are_neither_markup_nor_control_codes():
    content = scores(methods={"[red]x[/red]\x1b[2J": {"seconds": 1.0}}, reference=None)
    content["scenario"]["title"] = "[bold]t[/bold]\x1b]0;x\x07"
    text = text_of(scores_table(content))
    assert "[red]x[/red]" in text
    assert "[bold]t[/bold]" in text
    assert "\x1b" not in text


def test_a_wrong_mapping_is_refused():
    with pytest.raises(ReportError, match="`scores`: `methods` must be"):
        scores_table({"schema": 1})
