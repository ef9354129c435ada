import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amnesty.errors import InvalidInputError
from amnesty.evaluation import GAP_PARTS, read_answers
from amnesty.methods import METHODS, Method, Retrain
from amnesty.studies import digits
from amnesty.training import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The whole demonstration with one epoch of everything."""
    out = tmp_path_factory.mktemp("demo")
    short = {
        name: {key: type(method)(epochs=1) for key, method in settings.items()}
        for name, settings in digits.SETTINGS.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "SETTINGS", short)
        patch.setattr(digits, "RECIPE", Recipe(epochs=1))
        threads, told = torch.get_num_threads(), []
        assert [f.name for f in digits.run(out, seed=0, tell=told.append)] == list(digits.NAMES)
        assert torch.get_num_threads() == threads and len(told) > 15
    return out


def images(dataset) -> set[bytes]:
    return {dataset[i][0].numpy().tobytes() for i in range(len(dataset))}


@pytest.mark.parametrize("name", digits.NAMES)
class TestScenarios:
    def test_the_parts_are_what_was_trained_on_and_what_was_not(self, name):
        chosen = digits.scenario(name, seed=0)
        found = {part: images(chosen.parts[part]) for part in ("forget", "retain", "holdout", "validation")}
        assert found["forget"] | found["retain"] == images(chosen.trained_on)
        assert sum(len(part) for part in found.values()) == len(set.union(*found.values())) == 1797

    def test_tuning_never_sees_the_digits_that_are_reported(self, name):
        reported = set.union(*(images(digits.scenario(name, seed).parts["holdout"]) for seed in (0, 1, 2)))
        for seed in (0, 100, 101):
            for part in digits.scenario(name, seed, tuning=True).parts.values():
                assert not images(part) & reported

    def test_a_seed_fixes_it(self, name):
        first, second, other = (digits.scenario(name, seed=s) for s in (0, 0, 1))
        assert torch.equal(first.trained_on.labels, second.trained_on.labels)
        assert images(first.parts["forget"]) == images(second.parts["forget"])
        assert images(first.parts["validation"]) != images(other.parts["validation"])


def test_a_class_is_forgotten_whole_and_a_tenth_at_random():
    gone = digits.scenario("class").parts
    assert {int(gone["forget"][i][1]) for i in range(len(gone["forget"]))} == {3}
    assert 3 not in {int(gone["retain"][i][1]) for i in range(len(gone["retain"]))}
    some = digits.scenario("random").parts
    assert len(some["forget"]) == round(0.1 * (len(some["forget"]) + len(some["retain"])))


def test_poison_is_a_wrong_label_on_a_tenth():
    chosen = digits.scenario("poisoned")
    wrong = chosen.trained_on.labels.numpy() != chosen.trained_on.columns["true_label"]
    assert np.flatnonzero(wrong).tolist() == sorted(chosen.parts["forget"].indices)
    assert wrong.mean() == pytest.approx(0.1, abs=0.001)
    like = chosen.parts["nonmembers"]
    assert (like.labels.numpy() != like.columns["true_label"]).all()


@pytest.mark.parametrize("name", digits.NAMES)
class TestTheFolder:
    def test_scores_follow_the_schema(self, folder, name):
        document = json.loads((folder / name / "scores.json").read_text())
        assert document["schema"] == 1 and document["reference"] == "retrain"
        assert document["floor"] == "retrain_again" and document["study"] == "digits"
        assert set(document["methods"]) == {"original", "retrain", "retrain_again", *digits.SETTINGS[name]}
        for scores in document["methods"].values():
            assert {*GAP_PARTS, "average_gap"} <= set(scores)
            assert ("membership_advantage" in scores) == (name != "poisoned")
            assert all(0 <= scores[key] <= 1 for key in (*GAP_PARTS, "average_gap"))
        assert document["methods"]["retrain"]["average_gap"] == 0
        assert document["methods"]["munba"]["seconds"] > 0
        assert ("holdout_forgotten_accuracy" in document["methods"]["munba"]) == (name == "class")

    def test_models_and_answers_lie_beside_the_scores(self, folder, name):
        document = json.loads((folder / name / "scores.json").read_text())
        assert {path.stem for path in (folder / name / "models").iterdir()} == set(document["methods"])
        answers = read_answers(folder / name / "answers.parquet")
        assert set(answers) == set(document["methods"])
        for method, parts in answers.items():
            assert parts["forget"].correct.mean() == document["methods"][method]["forget_accuracy"]

    def test_history_and_examples_are_of_the_featured_method(self, folder, name):
        lines = (folder / name / "history.jsonl").read_text().splitlines()
        assert {"step", "forget_loss", "retain_loss", "cosine"} <= set(json.loads(lines[0]))
        examples = json.loads((folder / name / "examples.json").read_text())
        assert examples["method"] == "munba" and len(examples["examples"]) == digits.SHOWN
        for example in examples["examples"]:
            assert np.asarray(example["image"]).shape == (8, 8)
            assert (example["label"] != example["true_label"]) == (name == "poisoned")


def test_canaries_are_forgotten_beside_a_random_tenth():
    chosen, planted = digits.with_canaries(seed=0, count=50)
    wrong = np.flatnonzero(chosen.trained_on.labels.numpy() != chosen.trained_on.columns["true_label"])
    forgotten = chosen.parts["forget"].indices
    assert wrong.tolist() == planted.indices.tolist() and set(wrong) < set(forgotten)
    assert len(forgotten) == 50 + round(0.1 * (len(chosen.trained_on) - 50))
    unseen = images(planted.nonmembers)
    assert len(unseen) == 50 and unseen <= images(chosen.parts["holdout"])


def test_every_scenario_shows_the_same_methods_of_the_table():
    for name in digits.NAMES:
        assert digits.SETTINGS[name].keys() == digits.SETTINGS["class"].keys() <= METHODS.keys()
        assert all(type(method) is METHODS[key] for key, method in digits.SETTINGS[name].items())
        assert all(
            isinstance(method, Method) and not isinstance(method, Retrain)
            for method in digits.SETTINGS[name].values()
        )
        assert digits.SETTINGS[name]["munba"] == METHODS["munba"](), "MUNBa is shown with the library's defaults"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidInputError, match=r"thesis\.tex"):
        digits.run(tmp_path)
    with pytest.raises(InvalidInputError, match="is a file"):
        digits.run(tmp_path / "thesis.tex")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


class TestCheckFolder:
    def test_makes_the_folder_and_those_above_it(self, tmp_path):
        digits.check_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())

    def test_takes_an_earlier_demonstration_and_what_a_desktop_hides_there(self, tmp_path):
        for name in digits.NAMES:
            (tmp_path / name).mkdir()
        for name in ("report.html", ".DS_Store", ".gitignore"):
            (tmp_path / name).write_text("")
        digits.check_folder(tmp_path)
        assert len(list(tmp_path.iterdir())) == len(digits.NAMES) + 3

    def test_refuses_what_cannot_be_written_to(self, tmp_path):
        (tmp_path / "file").write_text("years of work")
        for out in (tmp_path / "file" / "below", Path("/proc/nope/demo")):
            with pytest.raises(InvalidInputError, match="`out` must be a folder that can be written to"):
                digits.check_folder(out)
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder here that even root cannot write to")
    def test_refuses_a_folder_that_is_there_and_cannot_be_written_to(self):
        with pytest.raises(InvalidInputError, match="`out` must be a folder that can be written to"):
            digits.check_folder(Path("/proc"))


def test_unknown_scenarios_are_refused():
    with pytest.raises(InvalidInputError, match="class, random, poisoned"):
        digits.scenario("everything")
