import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from pyarrow import parquet
from typer.testing import CliRunner

from amnesty.cli import app
from amnesty.data import content_hash
from amnesty.errors import DataError, InvalidInputError, UnknownNameError
from amnesty.evaluation import Evaluator, is_own, read_answers, write_answers
from amnesty.studies import digits, evaluating
from amnesty.studies.calling import canaries_at, task_at
from amnesty.studies.runs import read_run, write_run
from amnesty.training import Recipe
from amnesty.weights import save_weights
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
from torch.utils.data import ConcatDataset, Subset

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


def _with(**changes):
    made = task()
    return Classification(made.model, **{**made.parts, **changes})


def fewer():
    return _with(holdout=tiny.blobs(57, seed=5))


def relabelled():
    forget = Subset(task().parts["forget"].dataset, task().parts["forget"].indices[::-1])
    return _with(forget=forget)


def more():
    return _with(nonmembers=tiny.blobs(30, seed=8))


def noisy():
    return _with(holdout=tiny.blobs(60, seed=6))


def with_canaries():
    canaries = planted()
    parts = split(canaries.others, Fraction(0.2, seed=1)).parts(canaries.others)
    forget = ConcatDataset([canaries.members, parts["forget"]])
    return _with(forget=forget, retain=parts["retain"])


def planted_otherwise():
    return plant_canaries(tiny.blobs(120), tiny.blobs(60, seed=5), 12, tiny.CLASSES, seed=4)


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


@pytest.fixture
def tiny_run(files):
    """A run on a task of one's own: the original, a retrained model and an unlearned one."""
    task = task_at(f"{files}/mine.py:task")
    return _written(files / "run", task, Evaluator(task, changed(1), reference_seconds=2.0))


def changed(seed):
    model = tiny.conv_net()
    with torch.no_grad():
        model[5].bias.add_(torch.randn(3, generator=torch.Generator().manual_seed(seed)))
    return model.eval()


def _written(folder, task, evaluator, **content):
    models = {"original": task.model, "retrain": changed(1), "other": changed(2)}
    scores = {name: evaluator(model, seconds=2.0) for name, model in models.items()}
    document = {
        "schema": 1,
        "scenario": {"name": "mine", **content},
        "seed": 0,
        "reference": "retrain",
        "floor": None,
    }
    write_run(folder, document, scores, models)
    return folder


def rewrite(run, change):
    path = run / "scores.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def rewrite_answers(run, change):
    answers = read_answers(run / "answers.parquet")
    change(answers)
    write_answers(run / "answers.parquet", answers)


def refused(run, *arguments):
    """The message of a command that must leave the run's folder as it was."""
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    result = command(run, *arguments)
    assert isinstance(result.exception, InvalidInputError), (result.output, result.exception)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    return str(result.exception)


class TestOtherData:
    def test_the_same_data_is_asked_again(self, tiny_run, files):
        before = json.loads((tiny_run / "scores.json").read_text())["methods"]["other"]
        result = command(tiny_run, "--task", f"{files}/mine.py:task")
        assert result.exit_code == 0, result.output
        after = json.loads((tiny_run / "scores.json").read_text())["methods"]["other"]
        assert after == pytest.approx(before)

    @pytest.mark.parametrize(
        ("function", "part"), [("fewer", "holdout"), ("relabelled", "forget"), ("more", "nonmembers")]
    )
    def test_other_labels_are_refused_before_anything_is_lost(self, tiny_run, files, function, part):
        says = refused(tiny_run, "--task", f"{files}/mine.py:{function}")
        assert str(tiny_run) in says and part in says and "other data" in says

    def test_other_inputs_under_the_same_labels_are_refused_where_hashes_were_recorded(self, tiny_run, files):
        task = task_at(f"{files}/mine.py:task")
        hashes = {part: content_hash(task.parts[part]) for part in ("forget", "holdout")}
        rewrite(tiny_run, lambda document: document["scenario"].update(content=hashes))
        assert command(tiny_run, "--task", f"{files}/mine.py:task").exit_code == 0
        says = refused(tiny_run, "--task", f"{files}/mine.py:noisy")
        assert "holdout: the task's examples are not those that were recorded" in says

    def test_without_any_record_nobody_can_tell(self, tiny_run, files):
        (tiny_run / "answers.parquet").unlink()
        assert "neither answers nor hashes" in refused(tiny_run, "--task", f"{files}/mine.py:task")

    def test_one_task_is_not_the_data_of_several_seeds(self, tiny_run, files):
        shutil.copytree(tiny_run, files / "second")
        rewrite(files / "second", lambda document: document.update(seed=1))
        for option, function in (("--task", "task"), ("--canaries", "planted")):
            says = refused(tiny_run, files / "second", option, f"{files}/mine.py:{function}")
            assert f"{option} makes the data of one request and one seed" in says

    def test_the_demonstration_records_every_part_that_is_scored(self, demos):
        content = json.loads((demos / "0" / "poisoned" / "scores.json").read_text())["scenario"]["content"]
        assert set(content) == {"forget", "retain", "holdout", "nonmembers"}


class TestCanaries:
    @pytest.fixture
    def planted(self, files):
        task, canaries = task_at(f"{files}/mine.py:with_canaries"), canaries_at(f"{files}/mine.py:planted")
        return _written(
            files / "planted", task, Evaluator(task, changed(1), canaries=canaries, reference_seconds=2.0)
        )

    def test_are_needed_again(self, planted, files):
        before = json.loads((planted / "scores.json").read_text())["methods"]
        says = refused(planted, "--task", f"{files}/mine.py:with_canaries", "--also", "teachers")
        assert "was scored with canaries" in says and "--canaries" in says
        both = ("--task", f"{files}/mine.py:with_canaries", "--canaries", f"{files}/mine.py:planted")
        assert command(planted, *both).exit_code == 0
        assert json.loads((planted / "scores.json").read_text())["methods"]["other"] == pytest.approx(before["other"])
        assert "canaries" in read_answers(planted / "answers.parquet")["other"]

    def test_stored_answers_suffice_without_them(self, planted):
        assert command(planted).exit_code == 0

    def test_others_are_refused(self, planted, tiny_run, files):
        task = ("--task", f"{files}/mine.py:with_canaries")
        assert "planted" in refused(planted, *task, "--canaries", f"{files}/mine.py:planted_otherwise")
        says = refused(tiny_run, "--task", f"{files}/mine.py:task", "--canaries", f"{files}/mine.py:planted")
        assert "scored without canaries" in says


class TestMalformedRuns:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda d: d.update(scenario="class"), "`scenario` must be an object"),
            (lambda d: d.update(scenario={"name": []}), "`scenario.name` must be a string"),
            (lambda d: d.update(scenario={"content": {"forget": 3}}), "`scenario.content`"),
            (lambda d: d.update(seed="zero"), "`seed` must be a whole number"),
            (lambda d: d.update(seed=[1]), "`seed` must be a whole number"),
            (lambda d: d.update(reference=["retrain"]), "`reference` must be null or one of"),
            (lambda d: d.update(reference="retrained"), "`reference` must be null or one of"),
            (lambda d: d.update(forgotten_classes=["a"]), "`forgotten_classes` must be a list of class numbers"),
            (lambda d: d.update(forgotten_classes=3), "`forgotten_classes` must be a list of class numbers"),
            (lambda d: d.update(methods=3), "no `methods`"),
            (lambda d: d["methods"].update(other=3), "`methods.other` must be an object"),
            (lambda d: d["methods"]["other"].update(seconds="long"), "`methods.other.seconds` must be a number"),
            (lambda d: d["methods"]["other"].update(mine=True), "`methods.other.mine` must be a number"),
        ],
    )
    def test_scores_of_wrong_types(self, tiny_run, change, says):
        rewrite(tiny_run, change)
        assert says in refused(tiny_run)

    def test_numbers_that_are_none_were_not_measured(self, tiny_run):
        values = {"mine": None, "yours": float("nan"), "theirs": float("inf"), "whose": 10**400, "ours": 1.5}
        rewrite(tiny_run, lambda d: d["methods"]["other"].update(values))
        assert command(tiny_run).exit_code == 0
        assert set(json.loads((tiny_run / "scores.json").read_text())["methods"]["other"]) & set(values) == {"ours"}

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda a: [parts.pop("forget") for parts in a.values()], "on the forget set"),
            (lambda a: a["other"].pop("holdout"), "'other' was asked about"),
            (lambda a: a["other"].update(forget=a["other"]["forget"][1:]), "other, forget: the 23 labels"),
            (lambda a: a["other"].update(forget=a["other"]["forget"][::-1]), "other, forget: the 24 labels"),
            (lambda a: [p.update(canaries=p["forget"]) for p in a.values()], "both or none"),
            (lambda a: a.pop("original"), "answers of 'original'"),
            (lambda a: a.pop("retrain"), "answers of 'retrain'"),
            (
                lambda a: a["other"].update(forget=replace(a["other"]["forget"], margin=np.full(24, np.nan))),
                "`margin` must hold finite numbers",
            ),
        ],
    )
    def test_answers_that_do_not_belong_together(self, tiny_run, change, says):
        rewrite_answers(tiny_run, change)
        assert says in refused(tiny_run)

    def test_columns_of_other_types(self, tiny_run):
        table = parquet.read_table(tiny_run / "answers.parquet")
        for column, values, says in (
            ("js_to_reference", ["a"] * len(table), "was not written by Amnesty"),
            ("label", [0.5] * len(table), "`label` must hold class numbers"),
            ("margin", ["a"] * len(table), "`margin` must hold finite numbers"),
        ):
            at = table.column_names.index(column)
            parquet.write_table(table.set_column(at, column, [values]), tiny_run / "answers.parquet")
            assert says in refused(tiny_run)
        parquet.write_table(table[:0], tiny_run / "answers.parquet")
        assert "answers of 'original'" in refused(tiny_run)

    def test_a_method_without_answers_stays_as_recorded(self, tiny_run):
        before = json.loads((tiny_run / "scores.json").read_text())["methods"]
        rewrite_answers(tiny_run, lambda answers: answers.pop("other"))
        assert command(tiny_run).exit_code == 0
        assert json.loads((tiny_run / "scores.json").read_text())["methods"] == before

    def test_what_could_not_be_measured_again_does_not_stay(self, tiny_run, files, monkeypatch):
        old = {"relearning_ratio": 0.5, "relearning_ratio_low": 0.4, "svc_confidence_compat": 0.3, "mine": 3.0}
        rewrite(tiny_run, lambda d: d["methods"]["other"].update(old))
        monkeypatch.setattr("amnesty.evaluation.evaluator.relearned", lambda *_: {})
        assert command(tiny_run, "--task", f"{files}/mine.py:task", "--also", "relearning").exit_code == 0
        found = json.loads((tiny_run / "scores.json").read_text())["methods"]["other"]
        assert set(found) & set(old) == {"svc_confidence_compat", "mine"}


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["{run}", "--reference", "{f}/one.safetensors"], "--reference is for weights files"),
            (["{run}", "--second-reference", "{f}/one.safetensors"], "--second-reference is for weights files"),
            (["{run}", "--out", "{f}/new"], "--out is for weights files, not for runs"),
            (["{run}", "--seed", "0"], "--seed is for weights files and the self-test, not for runs"),
            (["{f}/one.safetensors", "--rank-by", "average_gap"], "--rank-by is for runs, not for weights files"),
            (["{f}/one.safetensors", "--distance"], "--distance is for runs"),
            (["{f}/one.safetensors", "--per-seed"], "--per-seed is for runs"),
            (["--self-test", "--also", "compat"], "--also is for runs and weights files, not for the self-test"),
            (["--self-test", "--out", "{f}/new"], "--out is for weights files, not for the self-test"),
            (["--self-test", "--rank-by", "average_gap"], "--rank-by is for runs, not for the self-test"),
            (["--self-test", "--distance"], "--distance is for runs, not for the self-test"),
            (["--self-test", "--per-seed"], "--per-seed is for runs, not for the self-test"),
            (["{run}", "--rank-by", "averge_gap"], "Did you mean 'average_gap'"),
            (["{run}", "--rank-by", "averge_gap", "--distance"], "Did you mean 'average_gap'"),
            (["{run}", "--rank-by", "forget_accuracy"], "cannot be ranked by `forget_accuracy`"),
        ],
    )
    def test_that_mean_nothing_are_refused_before_any_work(self, tiny_run, files, monkeypatch, arguments, says):
        for work in ("rescore", "reevaluate", "self_test", "evaluate_weights"):
            monkeypatch.setattr(evaluating, work, lambda *_, **__: pytest.fail("work was done"))
        result = command(*(a.format(f=files, run=tiny_run) for a in arguments))
        assert isinstance(result.exception, (InvalidInputError, UnknownNameError)), result.output
        assert says in str(result.exception)

    def test_a_distance_needs_a_retrained_model(self, tiny_run):
        rewrite(tiny_run, lambda document: document.update(reference=None))
        assert "--distance needs a retrained model" in refused(tiny_run, "--distance")

    def test_the_help_says_that_scores_are_written_anew(self):
        assert "scores.json is written anew" in " ".join(command("--help").output.replace("│", " ").split())


def test_names_in_brackets_are_names(files):
    for name in ("m[lr=0.1]", "b]", "[red]"):
        shutil.copy(files / "one.safetensors", files / f"{name}.safetensors")
    (files / "m[").mkdir()
    shutil.copy(files / "one.safetensors", files / "m[" / "b].safetensors")
    paths = [files / "m[lr=0.1].safetensors", files / "m[" / "b].safetensors", files / "[red].safetensors"]
    result = command(*paths, "--task", f"{files}/mine.py:task", "--out", files / "out[" / "b]")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "M[lr=0.1]" in result.output and "[red]" in result.output
    assert command(files / "out[" / "b]").exit_code == 0


def test_a_run_is_what_scores_json_says(tmp_path):
    for content, says in (("[]", "not the scores.json"), ('{"methods": {}}', "not the scores.json")):
        (tmp_path / "scores.json").write_text(content)
        with pytest.raises(DataError, match=says):
            read_run(tmp_path)
