import pytest

from amnesty.reports import read_scenarios
from amnesty.reports.verdict import headline, verdict
from amnesty.reports.words import SPACE
from tests.reports.folders import examples, scores, write


def scenario(tmp_path, shown=None, reference="retrain", **changes):
    """A scenario with the given measures of munba ("munba__retain_accuracy": 0.5) or of others changed."""
    content = scores(reference=reference)
    for key, value in changes.items():
        method, measure = key.split("__")
        content["methods"][method][measure] = value
    write(tmp_path, content, shown=examples() if shown is None else shown)
    return read_scenarios(tmp_path)[0]


@pytest.mark.parametrize(
    ("forget", "expected"),
    [
        (0.0, "Forgotten as if it had never been seen; the rest is kept."),
        (0.02, "Forgotten as if it had never been seen; the rest is kept."),
        (0.021, "Mostly forgotten; the rest is kept."),
        (0.5, "Mostly forgotten; the rest is kept."),
        (0.51, "Partly forgotten; the rest is kept."),
        (0.95, "Not forgotten; the rest is kept."),
        (1.0, "Not forgotten; the rest is kept."),
        (None, "Not measured."),
    ],
)
def test_headline_says_how_far_it_is_forgotten(tmp_path, forget, expected):
    assert headline(scenario(tmp_path, munba__forget_accuracy=forget)) == expected


def test_lower_than_the_reference_is_not_praised(tmp_path):
    found = scenario(tmp_path, retrain__forget_accuracy=0.97, munba__forget_accuracy=0.6)
    assert headline(found).startswith("Forgotten further than by retraining;")


def test_an_original_that_was_near_gets_no_praise_for_the_method(tmp_path):
    found = scenario(tmp_path, retrain__forget_accuracy=0.99, munba__forget_accuracy=0.98)
    assert "the original was close to that too" in headline(found)


@pytest.mark.parametrize("measure", ["retain_accuracy", "holdout_accuracy"])
def test_damage_is_said(tmp_path, measure):
    assert headline(scenario(tmp_path, **{f"munba__{measure}": 0.9})).endswith("; the rest has suffered.")


@pytest.mark.parametrize(
    ("auc", "half", "says"),
    [
        (0.6, 0.02, "a membership test still finds traces."),
        (0.4, 0.02, "a membership test tells it from unseen data."),
        (0.5, 0.10, "whether single examples left traces is open."),
    ],
)
def test_traces_are_said(tmp_path, auc, half, says):
    ends = {"munba__membership_auc_low": auc - half, "munba__membership_auc_high": auc + half}
    assert headline(scenario(tmp_path, munba__membership_auc=auc, **ends)).endswith(says)


def test_a_test_that_does_not_detect_the_original_is_said_to_show_nothing(tmp_path):
    found = scenario(tmp_path, original__membership_auc_low=0.45)
    assert "shows nothing here" in "\n".join(verdict(found).sentences) and "is open" in headline(found)


def test_what_stands_out_by_itself_is_not_said_to_show_nothing(tmp_path):
    ends = {"munba__membership_auc_low": 0.35, "munba__membership_auc_high": 0.45}
    found = scenario(tmp_path, original__membership_auc_low=0.45, munba__membership_auc=0.4, **ends)
    assert headline(found).endswith("a membership test tells it from unseen data.")
    assert "shows nothing here" not in "\n".join(verdict(found).sentences)


def test_without_a_reference_nothing_is_claimed(tmp_path):
    found = verdict(scenario(tmp_path, reference=None))
    assert found.headline == "Not comparable: no retrained model was measured."
    assert "retrained" not in " ".join(found.sentences)


def test_sentences_carry_the_numbers(tmp_path):
    text = "\n".join(verdict(scenario(tmp_path)).sentences).replace(SPACE, " ")
    assert text == (
        "Of the images to forget, the model recognised 100.00 % before and recognises 1.00 % after MUNBa; "
        "a model retrained without them recognises 0.00 %.\n"
        "It recognises 99.73 % of the images to keep (before 100.00 %, retrained 100.00 %) and 95.00 % of images "
        "that no model has seen (before 95.00 %, retrained 96.00 %).\n"
        "Shown one forgotten and one unseen image, a membership test points out the forgotten one in 51.00 % of "
        "cases (before 60.00 %, retrained 50.00 %); tossing a coin would in 50 %.\n"
        "Retraining took 10.0 s, unlearning 2.50 s: 25 % of that."
    )


@pytest.mark.parametrize(
    ("holdout", "expected"),
    [
        (0.955, "wins back 50 % of the accuracy"),
        (0.97, "all of the accuracy that the wrong labels had cost"),
        (0.94, "It lost accuracy on unseen data"),
    ],
)
def test_wrong_labels_have_words_of_their_own(tmp_path, holdout, expected):
    found = scenario(tmp_path, examples(wrong=True), munba__holdout_accuracy=holdout)
    text = " ".join(verdict(found).sentences).replace(SPACE, " ")
    assert "Of the wrong labels, the model repeated 100.00 % before and repeats 1.00 % after MUNBa" in text
    assert expected in text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.01, "less than 1 % of that"), (10.0, "1.0 times as long"), (25.0, "2.5 times as long")],
)
def test_time_is_told_as_it_is(tmp_path, seconds, expected):
    text = verdict(scenario(tmp_path, munba__seconds=seconds)).sentences[-1].replace(SPACE, " ")
    assert text.endswith(f": {expected}.")


def test_no_number_no_sentence(tmp_path):
    write(tmp_path, {"schema": 1, "methods": {"munba": {}}})
    assert verdict(read_scenarios(tmp_path)[0]).sentences == ()


def test_only_an_original(tmp_path):
    write(tmp_path, {"schema": 1, "methods": {"original": {"forget_accuracy": 1.0}}})
    assert headline(read_scenarios(tmp_path)[0]) == "No unlearning method was run."
