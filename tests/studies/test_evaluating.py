import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from amnesty.cli import app
from amnesty.errors import DataError, InvalidInputError, ModelError, UnknownNameError
from amnesty.evaluation import is_own
from amnesty.studies import digits, evaluating
from amnesty.studies.runs import load_weights, read_run, save_weights
from amnesty.training import Recipe
from tests import tiny

SHORT = {name: {"munba": type(settings["munba"])(epochs=1)} for name, settings in digits.SETTINGS.items()}


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Two seeds of the demonstration, with one method and a few epochs."""
    out = tmp_path_factory.mktemp("demos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "SETTINGS", SHORT)
        patch.setattr(digits, "RECIPE", Recipe(epochs=2))
        for seed in (0, 1):
            digits.run(out / str(seed), seed, tell=lambda _: None)
    return out


@pytest.fixture
def copied(demos, tmp_path):
    shutil.copytree(demos, tmp_path / "demos")
    return tmp_path / "demos"


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})


class TestRuns:
    def test_stored_answers_give_the_recorded_scores(self, copied):
        path = copied / "0" / "random" / "scores.json"
        before = json.loads(path.read_text())
        result = command(path.parent)
        assert result.exit_code == 0, result.output
        assert json.loads(path.read_text()) == before
        assert "MUNBa" in result.output and "membership" in result.output and "Retrained again" in result.output

    def test_the_models_can_be_asked_again(self, copied):
        path = copied / "0" / "class" / "scores.json"
        before = json.loads(path.read_text())
        result = command(path.parent, "--also", "compat")
        assert result.exit_code == 0, result.output
        after = json.loads(path.read_text())
        for name, values in before["methods"].items():
            assert {k: after["methods"][name][k] for k in values} == pytest.approx(values, abs=1e-9)
            assert 0 <= after["methods"][name]["svc_confidence_compat"] <= 1
        assert {k: v for k, v in after.items() if k != "methods"} == {
            k: v for k, v in before.items() if k != "methods"
        }

    def test_what_was_not_asked_for_again_stays(self, copied):
        run = copied / "0" / "random"
        for also in (("compat",), ("teachers",), ()):
            evaluating.evaluate_run(evaluating.find_runs([run])["random"][0], also)
        munba = json.loads((run / "scores.json").read_text())["methods"]["munba"]
        assert {"svc_confidence_compat", "zero_retrain_forgetting", "seconds", "weight_distance"} <= set(munba)

    def test_a_demonstration_is_its_three_runs(self, copied):
        result = command(copied / "0")
        assert result.exit_code == 0, result.output
        assert result.output.count("Because") == 3

    def test_seeds_of_a_scenario_are_summarised(self, copied):
        result = command(copied / "0", copied / "1")
        assert result.exit_code == 0, result.output
        assert (
            result.output.count("mean ± deviation over 2 seeds") == 3
            and "Floor, a second retrained model" in result.output
        )

    def test_a_blind_measure_ranks_nothing(self, copied):
        runs = [copied / seed / "random" for seed in "01"]
        result = command(*runs, "--rank-by", "unlearning_accuracy")
        assert isinstance(result.exception, InvalidInputError) and "destroyed" in str(result.exception)
        assert command(*runs, "--rank-by", "unlearning_accuracy", "--distance").exit_code == 0

    def test_the_same_seed_twice_is_no_more_evidence(self, copied):
        shutil.copytree(copied / "0" / "random", copied / "again")
        with pytest.raises(InvalidInputError, match="counted twice"):
            evaluating.find_runs([copied / "0" / "random", copied / "again"])

    def test_scores_json_holds_nothing_of_other_rows(self, demos):
        methods = json.loads((demos / "0" / "poisoned" / "scores.json").read_text())["methods"]
        assert all(is_own(key) for values in methods.values() for key in values)

    @pytest.mark.parametrize("spoil", ["answers", "original", "scores", "schema", "weights", "study"])
    def test_refuses_a_folder_that_lacks_something(self, copied, spoil):
        run = copied / "0" / "random"
        document = json.loads((run / "scores.json").read_text())
        also = ()
        if spoil == "answers":
            (run / "answers.parquet").write_bytes(b"PAR1 not really")
        elif spoil == "original":
            (run / "answers.parquet").unlink()
        elif spoil == "scores":
            (run / "scores.json").write_text("{")
        elif spoil == "schema":
            (run / "scores.json").write_text(json.dumps(document | {"schema": 2}))
        elif spoil == "weights":
            (run / "models" / "munba.safetensors").unlink()
            also = ("compat",)
        else:
            (run / "scores.json").write_text(json.dumps(document | {"study": "os.system"}))
            also = ("compat",)
        before = (run / "scores.json").read_bytes()
        with pytest.raises(InvalidInputError, match=r"random"):
            evaluating.evaluate_run(evaluating.find_runs([run])["random"][0], also)
        assert (run / "scores.json").read_bytes() == before

    def test_refuses_folders_without_runs(self, tmp_path):
        with pytest.raises(InvalidInputError, match="holds no run"):
            evaluating.find_runs([tmp_path])

    def test_options_of_weights_are_not_for_runs(self, copied):
        result = command(copied / "0" / "random", "--out", copied / "new")
        assert isinstance(result.exception, InvalidInputError) and "--out is for weights files" in str(
            result.exception
        )


MODULE = """
from amnesty.data import Fraction, plant_canaries, split
from amnesty.tasks import Classification
from tests import tiny


def planted():
    return plant_canaries(tiny.blobs(120), tiny.blobs(60, seed=5), 12, tiny.CLASSES)


def task():
    canaries = planted()
    parts = split(canaries.training, Fraction(0.2, seed=1)).parts(canaries.training)
    parts = {name: parts[name] for name in ("forget", "retain")}
    return Classification(tiny.conv_net(), **parts, holdout=tiny.blobs(60, seed=5))


def number():
    return 3


nothing = None
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    models = [tiny.conv_net() for _ in range(3)]
    for seed, (model, name) in enumerate(zip(models, ("one", "other", "third"), strict=True)):
        with torch.no_grad():
            model[5].bias.add_(torch.randn(3, generator=torch.Generator().manual_seed(seed)))
        save_weights(tmp_path / f"{name}.safetensors", model)
    return tmp_path


class TestWeights:
    def test_are_scored_on_a_task_of_one_s_own(self, files):
        out = files / "out"
        result = command(
            files / "one.safetensors",
            *("--task", f"{files}/mine.py:task", "--out", out),
            *("--reference", files / "other.safetensors", "--second-reference", files / "third.safetensors"),
        )
        assert result.exit_code == 0, result.output
        document = json.loads((out / "scores.json").read_text())
        assert set(document["methods"]) == {"original", "retrain", "retrain_again", "one"}
        assert (document["reference"], document["floor"]) == ("retrain", "retrain_again")
        assert document["methods"]["retrain"]["average_gap"] == 0
        assert document["methods"]["retrain_again"]["average_gap"] > 0
        assert command(out).exit_code == 0
        assert json.loads((out / "scores.json").read_text()) == document

    def test_nothing_is_written_unless_asked(self, files):
        before = sorted(path.name for path in files.iterdir())
        result = command(files / "one.safetensors", "--task", f"{files}/mine.py:task")
        assert result.exit_code == 0 and "one" in result.output.lower()
        assert sorted(p.name for p in files.iterdir() if p.name != "__pycache__") == before

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "Name folders of runs, or weights files"),
            (["{f}/none.safetensors", "--task", "{f}/mine.py:task"], "There is no"),
            (["{f}/one.safetensors"], "name the function that makes the task"),
            (["{f}/one.safetensors", "{f}", "--task", "{f}/mine.py:task"], "evaluated apart"),
            (["{f}/one.safetensors", "--task", "{f}/mine.py"], "is named package.module:function"),
            (["{f}/one.safetensors", "--task", "{f}/mine.py:tsk"], "Did you mean 'task'"),
            (["{f}/one.safetensors", "--task", "{f}/mine.py:nothing"], "Unknown function"),
            (["{f}/one.safetensors", "--task", "{f}/mine.py:number"], "must return an `amnesty.Classification`"),
            (["{f}/one.safetensors", "--task", "no.such.module:task"], "cannot be imported"),
            (["{f}/one.safetensors", "--task", "{f}/no.py:task"], "cannot be imported"),
            (["{f}/one.safetensors", "--task", "{f}/mine.py:task", "--also", "all"], "Unknown further measure 'all'"),
            (["{f}/one.safetensors", "--task", "{f}/mine.py:task", "--out", "{f}"], "must be new or empty"),
            (["{f}/one.safetensors", "--task", "{f}/mine.py:task", "--out", "{f}/mine.py"], "is a file"),
            (
                ["{f}/one.safetensors", "--task", "{f}/mine.py:task", "--canaries", "{f}/mine.py:task"],
                "must return `amnesty.data.Canaries`",
            ),
            (
                ["{f}/one.safetensors", "--task", "{f}/mine.py:task", "--canaries", "{f}/mine.py:planted"],
                "canaries are not in the forget set",
            ),
            (
                ["{f}/one.safetensors", "{f}/one.safetensors", "--task", "{f}/mine.py:task"],
                "'one' is taken",
            ),
            (["--self-test", "{f}/one.safetensors"], "takes no targets"),
            (["--self-test", "--reference", "{f}/one.safetensors"], "not for the self-test"),
            (["--self-test", "--task", "{f}/mine.py:task"], "give --reference"),
        ],
    )
    def test_bad_input_is_refused_before_any_work(self, files, arguments, says):
        result = command(*(a.format(f=files) for a in arguments))
        assert isinstance(result.exception, (InvalidInputError, UnknownNameError)), result.output
        assert says in str(result.exception)

    def test_the_self_test_runs_on_one_s_own_task(self, files):
        result = command(
            *("--self-test", "--task", f"{files}/mine.py:task"),
            *("--reference", files / "other.safetensors", "--second-reference", files / "third.safetensors"),
        )
        assert result.exit_code == 0, result.output
        assert "average_gap" in result.output and "unlearning_accuracy" in result.output


class TestWeightsFiles:
    def test_travel(self, tmp_path):
        save_weights(tmp_path / "a.safetensors", tiny.conv_net())
        torch.save(tiny.conv_net().state_dict(), tmp_path / "a.pt")
        for name in ("a.safetensors", "a.pt"):
            model = tiny.conv_net()
            with torch.no_grad():
                model[0].weight.zero_()
            load_weights(tmp_path / name, model)
            assert torch.equal(model[0].weight, tiny.conv_net()[0].weight)

    def test_that_are_no_plain_tensors_are_refused(self, tmp_path):
        torch.save(tiny.conv_net(), tmp_path / "whole.pt")
        (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
        save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
        for name, says in (
            ("whole.pt", "more than plain tensors"),
            ("cut.safetensors", "cannot be read"),
            ("other.safetensors", "does not fit"),
            ("none.safetensors", "cannot be read"),
        ):
            with pytest.raises(ModelError, match=says):
                load_weights(tmp_path / name, tiny.conv_net())


def test_a_run_is_what_scores_json_says(tmp_path):
    for content, says in (("[]", "not the scores.json"), ('{"methods": {}}', "not the scores.json")):
        (tmp_path / "scores.json").write_text(content)
        with pytest.raises(DataError, match=says):
            read_run(tmp_path)
