import dataclasses
from pathlib import Path

import pytest

from amnesty.bargaining import Nash, Sum
from amnesty.data import Classes, Column, Fraction, IndexFile, Indices
from amnesty.methods import LUR, OMP, SSD, FineTune, MUNBa, Retrain
from amnesty.requests.checking import read_request
from amnesty.requests.faults import RequestError
from amnesty.requests.request import (
    CheckpointSpec,
    DataSpec,
    DuplicatesSpec,
    InputsSpec,
    ModelSpec,
    SignSpec,
    SourceSpec,
)
from amnesty.requests.yaml_file import dump
from amnesty.training import Recipe
from tests.requests.writing import furnish, request, skip_without_packages, write

TRAINING = SourceSpec(kind="import", name="amnesty.requests.example:training")


@pytest.fixture
def folder(tmp_path):
    furnish(tmp_path)
    return tmp_path


def read(folder: Path, *overrides: str, look: bool = True, **sections: str):
    skip_without_packages(
        f"{request(**sections)} {' '.join(overrides)}".replace("sign.", "sign: {").replace("=", ": ")
    )
    return read_request(write(folder, request(**sections)), overrides, look=look)


def faults(folder: Path, *overrides: str, **sections: str):
    with pytest.raises(RequestError) as found:
        read(folder, *overrides, **sections)
    return found.value.faults


def test_what_is_not_said_has_its_default(folder):
    found = read(folder)
    assert found.name == "request" and found.out == folder / "request-unlearned"
    assert found.model == ModelSpec(kind="import", name="amnesty.requests.example:model")
    assert found.data == DataSpec(training=TRAINING)
    assert found.forget == {"forget": Fraction(0.1)} and found.method == MUNBa() and not found.tuned
    assert (found.seed, found.device, found.precision, found.workers) == (0, "auto", "float32", 0)
    assert found.duplicates == DuplicatesSpec() and found.checkpoint == CheckpointSpec()
    assert (found.sign, found.reference, found.trackers) == (None, None, ())


def test_a_section_that_is_left_empty_is_as_one_that_is_not_there(folder):
    empty = {key: f"{key}:" for key in ("method", "duplicates", "checkpoint", "sign", "trackers", "out", "name")}
    assert read(folder, **empty) == read(folder)


EVERYTHING = """\
name: user-7
model: {huggingface: hf}
data:
  training: {parquet: parts, split: train, image_column: img, label_column: fine_label, limit: 1000}
  holdout: {rows: {index_file: rows.txt}}
  validation: {images: images, limit: 5}
  inputs: {size: [32, 48], channels: 3, mean: [0.5, 0.4, 0.3], std: [1, 0.5, 0.25]}
forget:
  sets:
    user-7: {column: user_id, values: [7, seven, 1.5, true]}
    user-9: {column: user_id, values_file: users.txt}
    cats: {classes: [cat, 3], column: coarse}
    more: {indices: [5, 2]}
    rest: {fraction: 1e-1, seed: 4}
method: {name: MUNBa, lr: 1e-3, epochs: 5, rule: {nash: {length: fading}}}
reference: m.pt
seed: 12
device: cpu
precision: bfloat16
workers: 2
duplicates: {action: move, near: [pixels], threshold: 1}
checkpoint: {steps: 100, minutes: null}
trackers: [tensorboard]
sign: {sigstore: true}
out: old/result
"""


def test_everything_that_can_be_said(folder):
    skip_without_packages(EVERYTHING)
    found = read_request(write(folder, EVERYTHING))
    assert found.model == ModelSpec(kind="huggingface", name=str(folder / "hf"))
    assert found.data == DataSpec(
        training=SourceSpec(
            kind="parquet", name=str(folder / "parts"), image_column="img", label_column="fine_label", limit=1000
        ),
        holdout=IndexFile(folder / "rows.txt"),
        validation=SourceSpec(kind="images", name=str(folder / "images"), limit=5),
        inputs=InputsSpec(size=(32, 48), channels=3, mean=(0.5, 0.4, 0.3), std=(1.0, 0.5, 0.25)),
    )
    assert found.forget == {
        "user-7": Column("user_id", (7, "seven", 1.5, True)),
        "user-9": Column("user_id", folder / "users.txt"),
        "cats": Classes(("cat", 3), "coarse"),
        "more": Indices((5, 2)),
        "rest": Fraction(0.1, 4),
    }
    assert found.method == MUNBa(lr=0.001, epochs=5, rule=Nash(length="fading")) and found.tuned
    assert (found.name, found.reference, found.out) == ("user-7", folder / "m.pt", folder / "old" / "result")
    assert (found.seed, found.device, found.precision, found.workers) == (12, "cpu", "bfloat16", 2)
    assert found.duplicates == DuplicatesSpec(action="move", near=("pixels",), threshold=1.0)
    assert found.checkpoint == CheckpointSpec(steps=100, minutes=None)
    assert found.trackers == ("tensorboard",) and found.sign == SignSpec(sigstore=True)


def test_paths_are_those_of_the_file_wherever_one_stands(folder, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("HOME", str(folder / "old"))
    found = read(folder, "model.weights=hf/../m.pt", model="model: {import: './mine.py:made'}", r="reference: ~/m.pt")
    assert found.model.name == f"{folder / 'mine.py'}:made" and found.model.weights == folder / "m.pt"
    assert found.reference == folder / "old" / "m.pt"


def test_out_of_the_command_line_wins_and_is_relative_to_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder / "old")
    path = write(folder, request(out="out: no/such/place"))
    found = read_request(path, ["out=nor/there"], Path("result"))
    assert found.out == folder / "old" / "result" and found.document["out"] == str(found.out)
    with pytest.raises(RequestError, match=r"--out ../m.pt: `out` must be a folder"):
        read_request(path, out=Path("../m.pt"))


def test_the_folder_of_the_request_is_no_place_for_its_result_unless_it_is_that_of_its_own_run(folder):
    (fault,) = faults(folder / "old", model="model: {import: '../mine.py:made'}", out="out: .")
    assert "must be a folder of its own" in fault
    (folder / "old" / "checkpoint").mkdir()
    assert read(folder / "old", model="model: {import: '../mine.py:made'}", out="out: .").out == folder / "old"


def test_a_file_whose_name_is_no_name_needs_one(folder):
    path = write(folder, request(), "my request.yaml")
    with pytest.raises(RequestError, match="`name` is missing: add, for example, `name: user-7`"):
        read_request(path)
    assert read_request(write(folder, request(name="name: mine"), path.name)).name == "mine"


class TestOverrides:
    def test_they_are_applied_before_anything_is_checked(self, folder):
        found = read(folder, "seed=3", "method.epochs=5", "method.rule.nash.length=nash", seed="seed: nothing")
        assert found.seed == 3 and found.method == MUNBa(epochs=5, rule=Nash(length="nash")) and found.tuned

    def test_faults_in_them_are_named_by_them_after_those_of_the_file(self, folder):
        found = faults(folder, "method.epochs=0", "metod.x=1", "nothing", "a..b=1", "=1", "x=[", w="workers: -1")
        path = folder / "request.yaml"
        assert [fault.split(": ", 1)[0] for fault in found] == [
            f"{path}:4",
            *("--set method.epochs=0", "--set metod.x=1", "--set nothing", "--set a..b=1", "--set =1"),
            *("--set x=[",) * 2,
        ]
        assert found[1].endswith("`method.epochs` must be a whole number of at least 1, found 0.")
        assert "Did you mean 'method'?" in found[2] and "key.path=value" in found[3]

    def test_a_word_that_stands_for_a_section_can_be_gone_into(self, folder):
        found = read(
            folder,
            *("method.epochs=5", "method.rule.nash.power=[1, 2]", "duplicates.threshold=0.9"),
            method="method: {name: munba, rule: nash}",
            duplicates="duplicates: drop",
        )
        assert found.method == MUNBa(epochs=5, rule=Nash(power=(1.0, 2.0)))
        assert found.duplicates == DuplicatesSpec(action="drop", threshold=0.9)
        assert read(folder, "method=finetune", method="method: {name: scrub, alpha: 0.1}").method == FineTune()

    def test_one_of_several_choices_replaces_the_one_of_the_file(self, folder):
        chosen = read(folder, "forget.classes=[1, 2]", forget="forget: {column: user_id, values: [7]}")
        assert chosen.forget == {"forget": Classes((1, 2))}
        kept = read(folder, "forget.values_file=users.txt", forget="forget: {column: user_id, values: [7]}")
        assert kept.forget == {"forget": Column("user_id", folder / "users.txt")}
        both = ("forget.column=user_id", "forget.values=[7]")
        for order in (both, both[::-1]):
            assert read(folder, *order).forget == {"forget": Column("user_id", (7,))}
        inside = "forget: {sets: {a: {fraction: 0.5}, b: {classes: [1]}}}"
        found = read(folder, "forget.sets.a.indices=[1]", forget=inside)
        assert found.forget == {"a": Indices((1,)), "b": Classes((1,))}

    def test_so_it_is_with_models_and_sources(self, folder):
        data = "data: {training: {parquet: parts, split: train, limit: 9}, validation: 0.5}"
        model = "model: {import: 'mine.py:made', weights: m.pt}"
        chosen = ("model.huggingface=hf", "data.training.images=images", "data.validation.images=unseen")
        found = read(folder, *chosen, "data.holdout.rows.fraction=0.2", model=model, data=data)
        assert found.model == ModelSpec(kind="huggingface", name=str(folder / "hf"))
        assert found.data.training == SourceSpec(kind="images", name=str(folder / "images"), limit=9)
        assert found.data.validation == SourceSpec(kind="images", name=str(folder / "unseen"))
        assert found.data.holdout == Fraction(0.2)

    def test_they_can_add_and_take_away_whole_sections(self, folder):
        found = read(folder, "sign.sigstore=true", "reference=", "checkpoint={steps: 7}", r="reference: none.pt")
        assert found.sign == SignSpec(sigstore=True) and found.reference is None and found.checkpoint.steps == 7

    def test_a_value_cannot_be_gone_into(self, folder):
        (fault,) = faults(folder, "seed.x=1", s="seed: 3")
        assert fault == "--set seed.x=1: `seed` holds 3: give it as a whole."

    def test_a_long_one_is_not_shown_in_full(self, folder):
        (fault,) = faults(folder, f"seed={'x' * 5000}")
        assert len(fault) < 300


class TestEarlierRun:
    """A request on the model that an earlier run left."""

    def earlier(self, folder, **sections):
        (folder / "first").mkdir()
        (folder / "first" / "model.safetensors").write_text("0")
        data = "data: {training: {parquet: ../parts}, holdout: {rows: {indices: [1]}}}"
        return write(folder / "first", request(**{"data": data, **sections}))

    def test_its_data_is_taken_over(self, folder):
        self.earlier(folder)
        found = read(folder, model="model: {run: first}", data="")
        assert found.model == ModelSpec(kind="run", name=str(folder / "first"))
        assert found.data.training == SourceSpec(kind="parquet", name=str(folder / "parts"))
        assert found.data.holdout == Indices((1,))
        assert found.document["data"]["training"]["parquet"] == str(folder / "parts")

    def test_it_can_be_changed_or_be_another(self, folder):
        self.earlier(folder)
        found = read(folder, "data.training.limit=5", model="model: {run: first}", data="")
        assert found.data.training == SourceSpec(kind="parquet", name=str(folder / "parts"), limit=5)
        assert read(folder, model="model: {run: first}").data == DataSpec(training=TRAINING)

    def test_it_is_taken_over_through_several_runs(self, folder):
        self.earlier(folder)
        (folder / "second").mkdir()
        (folder / "second" / "model.safetensors").write_text("0")
        write(folder / "second", request(model="model: {run: ../first}", data=""))
        found = read(folder, model="model: {run: second}", data="")
        assert found.data.training.name == str(folder / "parts")

    def test_its_faults_are_named_with_its_file(self, folder):
        path = self.earlier(folder, data="data:\n  training: {parquet: none.parquet, limit: 0}")
        found = faults(folder, model="model: {run: first}", data="", seed="seed: -1")
        assert [fault.split(": ", 1)[0] for fault in found] == [
            f"{folder / 'request.yaml'}:4",
            f"{path}:3",
            f"{path}:3",
        ]

    @pytest.mark.parametrize("look", [True, False])
    def test_a_run_of_itself_is_none(self, folder, look):
        path = write(folder, request(model="model: {run: .}", data=""))
        with pytest.raises(RequestError, match="`model.run` must be the folder of an earlier run"):
            read_request(path, look=look)

    def test_a_run_that_is_not_over_has_no_model(self, folder):
        self.earlier(folder)
        (folder / "first" / "model.safetensors").unlink()
        (fault,) = faults(folder, model="model: {run: first}", data="")
        assert "is a run that is not over" in fault

    def test_its_folder_is_no_place_for_a_result(self, folder):
        self.earlier(folder)
        for out, said in (
            ("first/second", "must not be in what"),
            ("first", "must not be in what"),
            (".", "not hold"),
        ):
            assert said in faults(folder, model="model: {run: first}", data="", out=f"out: {out}")[0]


def test_without_looking_nothing_need_be_there(tmp_path):
    text = request(
        model="model: {timm: no_such_net, weights: none.pt}",
        data="data: {training: {parquet: none.parquet}, holdout: {images: nothing}}",
        forget="forget: {index_file: none.npy}",
        rest="device: cuda:77\nsign: {key: none.pem}\ntrackers: [none]\nreference: none.pt\nout: no/such/place",
    )
    found = read_request(write(tmp_path, text), look=False)
    assert found.model.weights == tmp_path / "none.pt" and found.device == "cuda:77"
    with pytest.raises(RequestError, match="`seed` must be"):
        read_request(write(tmp_path, text), ["seed=-1"], look=False)


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ("LUR", LUR()),
        ("{name: lur, preset: bargained, epochs: 3}", LUR.bargained(epochs=3)),
        ("{preset: paper}", MUNBa.paper()),
        ("{name: ssd, preset: paper}", SSD.paper()),
        ("{name: munba, rule: sum}", MUNBa(rule=Sum())),
        ("{name: munba, rule: {sum: [0.1, 1]}}", MUNBa(rule=Sum((0.1, 1.0)))),
        ("{name: lur, rule: null, lr: null}", LUR(rule=None, lr=None)),
        ("{name: retrain, recipe: {lr: 1e-2, epochs: 3}}", Retrain(recipe=Recipe(lr=0.01, epochs=3))),
        (
            "{name: omp, method: {name: finetune, epochs: 2}, sparsity: null}",
            OMP(method=FineTune(epochs=2), sparsity=None),
        ),
    ],
)
def test_methods_and_their_settings(folder, said, method):
    found = read(folder, method=f"method: {said}")
    assert found.method == method and found.tuned == (said != "LUR")
    again = read_request(write(folder, dump(found.document), "again.yaml"))
    assert again == found


def test_a_rule_has_a_number_for_every_player(folder):
    sets = "forget: {sets: {a: {indices: [1]}, b: {indices: [2]}}}"
    (fault,) = faults(folder, method="method: {rule: {nash: {power: [1, 2]}}}", forget=sets)
    assert "`method.rule` is for 2 players, but there are 3: 2 forget sets, and what is retained." in fault
    assert read(folder, method="method: {rule: {nash: {power: [1, 2, 3]}}}", forget=sets).forget.keys() == {"a", "b"}


def test_a_request_is_equal_to_one_that_says_the_same(folder):
    assert dataclasses.asdict(read(folder)) == dataclasses.asdict(
        read(folder, forget="forget: {fraction: 1e-1, seed: 0}")
    )
