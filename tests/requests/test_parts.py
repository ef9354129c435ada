from pathlib import Path

import numpy as np
import pytest
import torch

import amnesty
from amnesty import methods
from amnesty.data import (
    Classes,
    Column,
    Examples,
    Fraction,
    Indices,
    content_hash,
    example_hash,
    read_column,
)
from amnesty.errors import DataError, InvalidInputError, SplitError, UnknownNameError
from amnesty.requests.loaded import LoadedModel
from amnesty.requests.parts import make_parts, make_task, stratified
from amnesty.requests.request import DataSpec, ModelSpec, Request, SourceSpec
from amnesty.requests.sources import Sources
from tests import tiny

FILE = SourceSpec(kind="parquet", name="a.parquet")


def data(count=30, seed=0, names=("ape", "bee", "cat")):
    found = tiny.blobs(count, seed)
    return Examples(found.images, found.labels, names, {"user": [f"u{i % 5}" for i in range(count)]})


def request(forget, *, holdout=None, validation=0.5, seed=0):
    sets = forget if isinstance(forget, dict) else {"forget": forget}
    return Request(
        name="test",
        model=ModelSpec(kind="timm", name="resnet18"),
        data=DataSpec(training=FILE, holdout=holdout, validation=validation),
        forget=sets,
        method=methods.MUNBa(),
        seed=seed,
        out=Path("out"),
        document={},
    )


def sources(training=None, **others):
    return Sources(training=data() if training is None else training, **others, describe={})


def indices(parts):
    return {name: rows.indices.tolist() for name, rows in parts.rows.items()}


def everything(parts):
    return sorted(i for part in indices(parts).values() for i in part)


class TestRows:
    def test_what_is_not_forgotten_is_retained(self):
        parts = make_parts(request(Indices([7, 2])), sources())
        assert indices(parts) == {"forget": [2, 7], "retain": [i for i in range(30) if i not in (2, 7)]}
        assert parts.counts == {"forget": 2, "retain": 28}
        assert parts["forget"][1][1] == 7 % 3
        assert read_column(parts["forget"], "user").tolist() == ["u2", "u2"]

    def test_unseen_rows_are_taken_out_first(self):
        parts = make_parts(request(Classes(["bee"]), holdout=Column("user", ["u0", "u1"])), sources())
        unseen = sorted([*indices(parts)["holdout"], *indices(parts)["validation"]])
        assert unseen == [i for i in range(30) if i % 5 < 2]
        assert indices(parts)["forget"] == [i for i in range(30) if i % 3 == 1 and i % 5 >= 2]
        assert everything(parts) == list(range(30))

    def test_a_class_that_is_forgotten_stays_among_the_unseen(self):
        parts = make_parts(request(Classes(["bee"])), sources(holdout=data(12, seed=5)))
        for part in ("holdout", "validation"):
            assert sorted(set(read_column(parts[part], "label").tolist())) == [0, 1, 2]
        assert make_task(loaded(), parts).forgotten_classes == (1,)

    def test_validation_is_drawn_from_the_holdout_by_the_seed(self):
        made = [make_parts(request(Indices([0]), seed=s), sources(holdout=data(30, seed=5))) for s in (0, 0, 1)]
        drawn = [indices(parts)["validation"] for parts in made]
        assert drawn[0] == drawn[1] != drawn[2]
        assert sorted(drawn[0] + indices(made[0])["holdout"]) == list(range(30))
        labels = read_column(made[0]["validation"], "label")
        assert np.bincount(labels).tolist() == [5, 5, 5]
        assert made[0].rows["validation"].source == made[0].rows["holdout"].source == "holdout"

    def test_validation_of_its_own(self):
        both = sources(holdout=data(9, seed=5), validation=data(6, seed=6))
        parts = make_parts(request(Indices([0]), validation=FILE), both)
        assert parts.counts == {"forget": 1, "retain": 29, "holdout": 9, "validation": 6}
        alone = make_parts(request(Indices([0]), validation=FILE), sources(validation=data(6, seed=6)))
        assert list(alone) == ["forget", "retain", "validation"]

    def test_no_unseen_data_at_all(self):
        assert list(make_parts(request(Indices([0])), sources())) == ["forget", "retain"]

    def test_several_sets_and_fractions_of_what_they_leave(self):
        sets = {"a": Fraction(0.5, seed=1), "b": Fraction(0.5, seed=1), "u": Column("user", ["u1"])}
        parts = make_parts(request(sets), sources())
        assert list(parts.forget) == ["a", "b", "u"]
        assert parts.counts == {"a": 12, "b": 6, "u": 6, "retain": 6}
        assert everything(parts) == list(range(30))

    @pytest.mark.parametrize(
        ("forget", "options", "says"),
        [
            ({"a": Indices([1, 2]), "b": Indices([2, 3])}, {}, "'a' and 'b' overlap: they share 1 .* row 2"),
            (Fraction(0.999), {}, "select some but not all"),
            (Classes(["ape", "bee", "cat"]), {}, "The retain set is empty"),
            (Indices([]), {}, "The forget set is empty"),
            ({"a": Indices([1]), "b": Indices([])}, {}, "The forget set 'b' is empty"),
            (Indices([3]), {"holdout": Indices([3, 4])}, "in the holdout part too: 3"),
            (Indices([99]), {}, "outside a data set of 30"),
            (Column("user", ["u77"]), {}, "never has the value 'u77'"),
            (Indices([0]), {"holdout": Indices([])}, "selects 0 of 30 rows"),
            (Indices([0]), {"holdout": Indices([3]), "validation": 0.5}, "takes 0 of 1 unseen"),
            (Classes(["bee"]), {"holdout": Classes(["bee"])}, "The forget set is empty"),
            ({"retain": Indices([1])}, {}, "cannot be called 'retain'"),
        ],
    )
    def test_refusals(self, forget, options, says):
        with pytest.raises(SplitError, match=says):
            make_parts(request(forget, **options), sources())

    def test_unknown_columns_and_classes(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'user'"):
            make_parts(request(Column("users", ["u1"])), sources())
        with pytest.raises(UnknownNameError, match="Known: ape, bee, cat"):
            make_parts(request(Classes(["dog"])), sources())


class TestRecords:
    def test_hashes_are_those_of_the_examples(self):
        parts = make_parts(request(Indices([4, 1])), sources(holdout=data(6, seed=5)))
        for name in parts:
            part = parts[name]
            assert parts.hashes[name] == tuple(example_hash(*part[i]) for i in range(len(part)))
            assert parts.content[name] == content_hash(part)

    def test_fingerprints_are_of_the_rows(self):
        made = [make_parts(request(Indices(chosen)), sources()) for chosen in ([1, 2], [2, 1], [1, 3])]
        prints = [parts.fingerprint for parts in made]
        assert prints[0] == prints[1] != prints[2]

    def test_a_part_that_is_not_there(self):
        with pytest.raises(UnknownNameError, match="Known: forget, retain"):
            make_parts(request(Indices([4])), sources())["holdout"]


class TestChanging:
    @pytest.fixture
    def parts(self):
        return make_parts(request({"a": Indices([0, 1]), "b": Indices([5])}), sources(holdout=data(6, seed=5)))

    def test_taken_out_and_moved(self, parts):
        retained = parts.rows["retain"].indices
        found = parts.changed(
            {"retain": np.arange(2, 27), "holdout": np.array([1])}, {"b": ("retain", np.array([0]))}
        )
        assert found.rows["b"].indices.tolist() == [retained[0], 5]
        assert found.rows["retain"].indices.tolist() == retained[2:].tolist()
        assert found.counts["holdout"] == 1 and found.counts["a"] == 2
        assert parts.counts["retain"] == 27  # as it was

    def test_refusals(self, parts):
        with pytest.raises(SplitError, match="The retain set is empty: no example is left"):
            parts.changed({"retain": np.array([], dtype=int)})
        with pytest.raises(SplitError, match="were never trained on"):
            parts.changed({}, {"a": ("holdout", np.array([0]))})
        with pytest.raises(UnknownNameError):
            parts.changed({"retained": np.arange(2)})


def test_inputs_of_other_shapes_are_refused_where_they_are_hashed():
    pairs = [(torch.zeros(1, 4 + i // 20, 4), i % 3) for i in range(30)]
    parts = make_parts(request(Indices([4])), sources(pairs))
    with pytest.raises(DataError, match="retain set cannot be put into one batch"):
        parts.hashes  # noqa: B018


class TestStratified:
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.77])
    def test_every_class_has_its_share(self, share):
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [40, 7, 100, 23, 1]))
        found = stratified(labels, share, seed=3)
        assert len(found) == round(share * len(labels)) == len(np.unique(found))
        off = np.bincount(labels[found], minlength=5) - share * np.bincount(labels)
        assert abs(off).max() <= 1 + 1e-9

    def test_every_example_has_the_same_chance(self):
        labels = np.repeat([0, 1], [30, 10])
        taken = np.zeros(40)
        for seed in range(2000):
            taken[stratified(labels, 0.3, seed)] += 1
        assert abs(taken / 2000 - 0.3).max() < 0.05  # 4.9 standard deviations

    @pytest.mark.parametrize("share", [0.01, 0.99])
    def test_nothing_or_everything_is_refused(self, share):
        with pytest.raises(SplitError, match="of 10 unseen examples"):
            stratified(np.zeros(10, dtype=int), share, seed=0)


def loaded(model=None, names=None):
    model = tiny.conv_net() if model is None else model
    return LoadedModel(model=model, spec=ModelSpec(kind="timm", name="x"), class_names=names)


class TestTask:
    def test_has_the_parts(self):
        parts = make_parts(request(Indices([3, 4])), sources(holdout=data(6, seed=5)))
        task = make_task(loaded(), parts)
        assert set(task.parts) == {"forget", "retain", "holdout", "validation"} and not task.sets
        assert task.labels("forget").tolist() == [0, 1]
        assert task.class_names == ("ape", "bee", "cat")

    def test_named_sets_are_players_of_their_own(self):
        sets = {"user 1": Column("user", ["u1"]), "user 3": Column("user", ["u3"])}
        task = make_task(loaded(), make_parts(request(sets), sources()))
        assert list(task.sets) == ["user 1", "user 3"]
        one = make_task(loaded(), make_parts(request({"user 1": sets["user 1"]}), sources()))
        assert not one.sets and len(one.labels("forget")) == 6

    def test_copies_are_refused_unless_they_are_to_be_kept(self):
        training = data()
        training.images[3] = training.images[0]
        parts = make_parts(request(Indices([0])), sources(training))
        with pytest.raises(SplitError, match="are in the retain set too"):
            make_task(loaded(), parts).check()
        make_task(loaded(), parts, duplicates="keep").check()

    def test_classes_in_another_order_are_refused(self):
        parts = make_parts(request(Indices([0])), sources())
        make_task(loaded(names=("Ape", "Bee", "Cat")), parts)
        with pytest.raises(DataError, match="'ape' has the number 1 in the model and 0 in the data"):
            make_task(loaded(names=("bee", "ape", "cat")), parts)

    def test_names_of_the_model_where_the_data_has_none(self):
        parts = make_parts(request(Indices([0])), sources(tiny.blobs(30)))
        assert make_task(loaded(names=("x", "y", "z")), parts).class_names == ("x", "y", "z")

    def test_labels_that_the_model_does_not_have(self):
        training = data()
        training.labels[4] = 3
        task = make_task(loaded(), make_parts(request(Indices([0])), sources(training)))
        with pytest.raises(DataError, match="outside the model's 3 classes, such as 3 of example"):
            task.check()

    def test_two_sets_one_of_which_has_a_parts_name(self):
        parts = make_parts(request({"forget": Indices([1]), "b": Indices([2])}), sources())
        with pytest.raises(InvalidInputError, match="must not name a set 'forget'"):
            make_task(loaded(), parts)


def test_the_task_can_be_unlearned():
    parts = make_parts(request(Fraction(0.2)), sources(data(60), holdout=data(30, seed=5)))
    task = make_task(loaded(), parts)
    outcome = amnesty.unlearn(task, methods.FineTune(epochs=1), seed=0)
    assert torch.isfinite(outcome.model(task.probe)).all()
