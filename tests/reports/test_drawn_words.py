from pathlib import Path

import pytest

from amnesty.reports.drawn_words import drawn_headline, drawn_sentences
from amnesty.reports.read import parse_scores
from amnesty.reports.scenario import Scenario
from amnesty.reports.verdict import verdict
from amnesty.reports.words import SPACE
from tests.reports.generator_folders import UNJUDGED, judged


def scores(methods, **more):
    return parse_scores({"schema": 1, "methods": methods, **more}, "x")


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        (judged((48, 0)), "is not seen in any image; kept prompts are drawn as asked as often as before."),
        (judged((48, 2)), "What was to be forgotten is hardly drawn any more; kept prompts are"),
        (judged((48, 40)), "What was to be forgotten is still drawn; kept"),
        (judged((48, 10)), "Whether what was to be forgotten is still drawn cannot be told"),
        (judged((0, 0)), "Whether what was to be forgotten is still drawn cannot be told"),
        (judged((48, 0), (200, 160)), "kept prompts are drawn as asked less often than before."),
        (judged((48, 0), (200, 196)), "whether kept prompts are drawn as asked as often as before is open."),
        (UNJUDGED, "Nobody judged what is drawn: look at the images."),
        ({"munba": {"fid_retain": 30.0}}, "Nobody judged what is drawn"),
        ({"munba": {"drawn_forget_accuracy": 0.5}}, "What was measured allows no verdict."),
    ],
)
def test_the_headline_follows_from_the_findings(methods, says):
    assert says in drawn_headline(scores(methods), "munba")


def test_a_generator_that_never_met_it_stands_beside():
    methods = judged()
    methods["reference"] = judged((1, 1))["original"]
    found = " ".join(drawn_sentences(scores(methods, reference="reference"), "munba")).replace(SPACE, " ")
    assert "as the judge sees it; of a generator that never met it, 2.00 %." in found
    assert "a generator that never met what is forgotten 100.00 %" in found


def test_other_measures_are_told_as_they_are():
    methods = {"original": {"fid_retain": 38.2}, "munba": {"fid_retain": 36.25, "clip_score_retain": 30.1}}
    assert drawn_sentences(scores(methods), "munba") == (
        "Frechet distance of the images for kept prompts from real ones: 36.25 after, 38.20 before.",
        "CLIP score of the images for kept prompts: 30.10 after, – before.",  # noqa: RUF001
    )


def test_the_verdict_of_a_study_speaks_of_images():
    found = verdict(Scenario(Path("x"), scores(judged())))
    assert found.headline.startswith("What was to be forgotten is not seen in any image")
    assert not any(word in " ".join(found.sentences) for word in ("recognis", "example", "membership"))
    assert found.sentences[-1].startswith("Unlearning took 12.5")
