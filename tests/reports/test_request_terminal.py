import pytest
from rich.console import Console

from amnesty.errors import ReportError
from amnesty.reports import show_plan, show_request, write_request_report
from tests.reports import generator_folders
from tests.reports.request_folders import FACTS, LATER, write

MARKUP = "[bold red]x[/bold red] [/] [link=http://a]"


def said(show, *given):
    console = Console(width=200)
    with console.capture() as captured:
        show(console, *given)
    return captured.get()


def test_the_end_tells_the_numbers_and_what_comes_next(tmp_path):
    folder = write(tmp_path / "my run", {**LATER, "warnings": ["careful"]}, after=1.5, reference=True)
    write_request_report(folder)
    text = said(show_request, folder)
    for expected in (
        "user-7: the examples whose user_id is 7",
        "There are traces left of what was to be forgotten",
        "Original",
        "Retrained",
        "Forget accuracy",
        "[98.12, 100.00]",
        "Membership AUC",
        "remembered",
        "Earlier request user-3: not detected (AUC 0.50 [0.45, 0.55])",
        "Note: careful",
        "model.safetensors",
        "report.html",
        "which chose its step size and when to stop by itself",
        f"amnesty verify '{folder}'",
    ):
        assert expected in text


def test_brackets_are_no_markup(tmp_path):
    names = {"name": MARKUP, "asked": MARKUP, "warnings": [MARKUP]}
    names["rechecked"] = [{"name": MARKUP, "answer": "inconclusive", "reason": MARKUP}]
    text = said(show_request, write(tmp_path, names))
    assert text.count(MARKUP) == 5
    plan = said(show_plan, {"name": MARKUP, "asked": MARKUP, "model": MARKUP, "out": MARKUP})
    assert plan.count(MARKUP) == 4


def test_control_characters_do_not_steer_the_terminal():
    assert "\x1b" not in said(show_plan, {"name": "a\x1b[2J", "model": "\x1b]0;title\x07"})


def test_the_plan_tells_what_will_be_done():
    facts = {**FACTS, "model": "timm resnet18", "data": "train.parquet", "out": "/results/user-7"}
    text = said(show_plan, facts)
    for expected in (
        "timm resnet18",
        "train.parquet",
        "the examples whose user_id is 7",
        "validation 300, holdout 300",
        "MUNBa, which chooses its step size and when to stop by itself",
        "cpu, float32, seed 3",
        "/results/user-7",
    ):
        assert expected in text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    tuned = said(show_plan, {**facts, "tuned": True, "self_tuned": False})
    assert "MUNBa, with the settings of the request" in tuned
    assert "epochs 5" in tuned
    assert "epochs 5" not in text
    assert "MUNBa, with its default settings" in said(show_plan, {"name": "a", "method": "munba"})


def test_a_fact_of_another_type_is_refused():
    with pytest.raises(ReportError, match="`facts`: `forgotten` must be a whole number"):
        said(show_plan, {"name": "a", "forgotten": "many"})


def test_a_generator_is_told_of_in_words_of_images(tmp_path):
    folder = generator_folders.write(tmp_path, result="adapter")
    text = said(show_request, folder)
    for expected in (
        "is not seen in any image",
        "Forgotten prompts, drawn as asked",
        "forgotten prompts",
        "Adapters",
    ):
        assert expected in text
    assert "Unlearned model" not in text and "Not measured" not in text


def test_a_generator_that_nobody_judged_has_no_empty_table(tmp_path):
    text = said(show_request, generator_folders.write(tmp_path, None, generator_folders.UNJUDGED))
    assert "Nobody judged what is drawn" in text and "Measure" not in text


def test_the_plan_for_a_generator_keeps_no_forget_set():
    counts = {"three": 16, "five": 16, "retain": 128}
    text = said(show_plan, {**FACTS, "asked": "", "counts": counts, "forgotten": 32, "task": "diffusion"})
    assert "32 images" in text and "128 images" in text and "examples" not in text
    assert "three" not in said(show_plan, {**FACTS, "counts": counts})
