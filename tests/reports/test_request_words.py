import pytest

from amnesty.evaluation import Finding
from amnesty.reports.request_words import run_headline


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({}, "Not measured."),
        ({"utility": "kept"}, "Not measured; what is to stay is kept."),
        ({"membership": "inconclusive"}, "Whether it is forgotten cannot be told from these data."),
        ({"membership": "not detected"}, "No trace was found of what was to be forgotten."),
        (
            {"membership": "not detected", "likeness": "inconclusive"},
            "No trace was found of what was to be forgotten, though not every test could have found one.",
        ),
        (
            {"membership": "remembered", "likeness": "not detected"},
            "There are traces left of what was to be forgotten.",
        ),
        (
            {"likeness": "over-forgotten", "utility": "broken"},
            "Forgotten too far: it stands out from data that was never seen; what is to stay has suffered.",
        ),
        (
            {"class": "remembered", "likeness": "over-forgotten", "utility": "inconclusive"},
            "There are traces left of what was to be forgotten; whether what is to stay is kept is open.",
        ),
    ],
)
def test_the_worst_finding_makes_the_headline(answers, says):
    assert run_headline([Finding(question, answer, "") for question, answer in answers.items()]) == says
