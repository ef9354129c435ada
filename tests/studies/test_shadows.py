import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from amnesty import Classification, Recipe, train, unlearn
from amnesty.data import Examples, content_hash
from amnesty.errors import DataError, InvalidInputError, SplitError
from amnesty.methods import FineTune, Method, Retrain
from amnesty.methods.base import About
from amnesty.seeds import derive
from amnesty.studies.shadow_work import in_processes
from amnesty.studies.shadows import ShadowError, ShadowPool
from amnesty.tasks.labelled import predict
from tests import tiny

RECIPE = Recipe(epochs=2, batch_size=20, lr=0.05)
METHOD = FineTune(epochs=1, batch_size=20)
TARGETS = range(0, 60, 5)


def quiet(_: str) -> None:
    pass


def pool(folder, **other):
    settings = {
        "data": tiny.blobs(60),
        "fresh": tiny.mlp,
        "recipe": RECIPE,
        "targets": TARGETS,
        "shadows": 4,
        "evaluated": tiny.blobs(15, seed=5),
        "workers": 1,
        "tell": quiet,
    }
    return ShadowPool(folder, **settings | other)


def arrays(made):
    return {"original": made.originals(), "retrained": made.retrained(), "unlearned": made.unlearned(METHOD)}


def equal(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


def method_folder(made):
    return next(path for path in made.folder.iterdir() if path.name.startswith("finetune-"))


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A pool with all three kinds of models, and its arrays."""
    made = pool(tmp_path_factory.mktemp("shadows") / "pool")
    return made, arrays(made)


@pytest.fixture
def copied(complete, tmp_path):
    """A copy of that folder, to be damaged."""
    import shutil

    return shutil.copytree(complete[0].folder, tmp_path / "copy")


class TestTheArrays:
    def test_have_a_row_for_each_model_and_a_column_for_each_example(self, complete):
        made, found = complete
        for each in found.values():
            assert each.shape == (4, 75) and each.dtype == np.float32 and np.isfinite(each).all()
        assert made.trained.shape == made.forgotten.shape == (4, 60) and made.groups.tolist() == [0, 0, 1, 1]
        assert np.flatnonzero(made.forgotten.any(axis=0)).tolist() == list(TARGETS)

    def test_are_those_of_models_trained_by_hand(self, complete):
        made, found = complete
        data = tiny.blobs(60)
        own = Subset(data, np.flatnonzero(made.trained[3]).tolist())
        kept = Subset(data, np.flatnonzero(made.trained[3] & ~made.forgotten[3]).tolist())
        forget = Subset(data, np.flatnonzero(made.forgotten[3]).tolist())
        original = train(tiny.mlp(), own, RECIPE, seed=derive(0, "shadow", 3, "original"))
        twin = train(tiny.mlp(), kept, RECIPE, seed=derive(0, "shadow", 3, "retrained"))
        task = Classification(original, forget=forget, retain=kept)
        forgot = unlearn(task, METHOD, seed=derive(0, "shadow", 3, "finetune")).model
        for name, model in {"original": original, "retrained": twin, "unlearned": forgot}.items():
            for part, columns in ((data, slice(0, 60)), (tiny.blobs(15, seed=5), slice(60, 75))):
                said = predict(model, part)
                p = said.logits.double().softmax(dim=1).gather(1, said.labels[:, None])[:, 0]
                by_hand = (p / (1 - p)).log().numpy()
                assert np.allclose(found[name][3, columns], by_hand, rtol=1e-5, atol=1e-5)

    def test_know_what_was_right_and_how_long_it_took(self, complete):
        made, found = complete
        answers = made.answers("original")
        said = predict(made.model("original", 2), tiny.blobs(60))
        right = (said.logits.argmax(dim=1) == said.labels).numpy()
        assert (answers.correct[2, :60] == right).all() and answers.correct.dtype == bool
        assert (answers.correct >= (found["original"] > 0)).all()  # more than half of the mass is the most
        assert answers.seconds.shape == (4,) and (answers.seconds > 0).all()

    def test_members_are_known_better_than_others(self, tmp_path):
        data = tiny.blobs(60)
        random = Examples(data.images, data.labels[torch.randperm(60, generator=torch.Generator().manual_seed(0))])
        made = pool(tmp_path / "pool", data=random, recipe=dataclasses.replace(RECIPE, epochs=40))
        original, twin = made.originals()[:, :60], made.retrained()[:, :60]
        kept = made.trained & ~made.forgotten
        for margins, known in ((original, made.trained), (twin, kept)):
            assert margins[known].mean() > margins[~known].mean() + 1  # random labels can only be memorised
        assert (twin[made.forgotten] < original[made.forgotten]).mean() > 0.8

    def test_a_stored_model_gives_its_margins(self, complete):
        made, found = complete
        said = predict(made.model("retrained", 1), tiny.blobs(60))
        others = said.logits.double().scatter(1, said.labels[:, None], -torch.inf).logsumexp(dim=1)
        by_hand = said.logits.double().gather(1, said.labels[:, None])[:, 0] - others
        assert np.array_equal(found["retrained"][1, :60], by_hand.numpy().astype(np.float32))


class TestTheFolder:
    def test_what_is_there_is_read_not_computed(self, complete, monkeypatch):
        made, found = complete
        monkeypatch.setattr("amnesty.studies.shadows.in_processes", None)
        assert equal(arrays(pool(made.folder)), found)

    def test_an_interrupted_run_resumes_and_gives_the_same_numbers(self, complete, copied, monkeypatch):
        made, found = complete
        gone = ["original/001.npz", "original/003.safetensors", "retrained/000.npz"]
        gone += [f"{method_folder(made).name}/{s:03}.npz" for s in (1, 2)]
        for name in gone:
            (copied / name).unlink()
        (copied / "original" / ".002.npz.0123").write_bytes(b"left by a killed process")
        computed = []

        def watched(job, stage, shadows, *rest):
            computed.append((stage.key, list(shadows)))
            in_processes(job, stage, shadows, *rest)

        monkeypatch.setattr("amnesty.studies.shadows.in_processes", watched)
        assert equal(arrays(pool(copied)), found)
        assert computed == [("original", [1, 3]), ("retrained", [0]), ("finetune", [1, 2])]

    def test_two_workers_give_the_numbers_of_one(self, complete, tmp_path):
        _, found = complete
        told = []
        made = pool(tmp_path / "pool", workers=2, tell=told.append)
        assert equal(arrays(made), found)
        assert told[3] == "original: 4 of 4 models" and len(told) == 12
        with pytest.raises(ShadowError, match=r"Shadow [0-3] \(Failing-.*RuntimeError: out of ideas"):
            made.unlearned(Failing())

    def test_more_methods_share_the_originals(self, copied):
        made = pool(copied)
        weaker, stronger = FineTune(epochs=1, lr=1e-4), FineTune(epochs=1, lr=0.1)
        first, second = made.unlearned(weaker), made.unlearned(stronger)
        assert not np.array_equal(first, second)
        assert np.abs(first - made.originals()).mean() < np.abs(second - made.originals()).mean()
        assert len([p for p in copied.iterdir() if p.name.startswith("finetune-")]) == 3

    def test_retraining_is_a_method_too(self, copied):
        made = pool(copied)
        found = made.unlearned(Retrain(recipe=RECIPE))
        assert found.shape == (4, 75) and not np.array_equal(found, made.retrained())  # seeds of their own

    def test_the_record_says_what_the_numbers_depend_on(self, complete):
        made, _ = complete
        record = json.loads((made.folder / "design.json").read_text())
        assert record["pool"]["content"] == content_hash(tiny.blobs(60)) and record["pool"]["count"] == 60
        assert record["recipe"] == dataclasses.asdict(RECIPE) and record["engine"] == "processes"
        settings = json.loads((method_folder(made) / "method.json").read_text())
        assert settings["batch_size"] == 20 and settings["class"] == "amnesty.methods.finetune.FineTune"

    def test_nothing_but_whole_files_is_left(self, complete):
        made, _ = complete
        names = sorted(path.name for path in (made.folder / "original").iterdir())
        assert names == [f"{s:03}.{kind}" for s in range(4) for kind in ("npz", "safetensors")]


class TestAnotherDesign:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"seed": 1}, "seed"),
            ({"shadows": 6}, "shadows"),
            ({"targets": range(0, 60, 6)}, "targets"),
            ({"recipe": dataclasses.replace(RECIPE, lr=0.04)}, "recipe"),
            ({"data": tiny.blobs(60, seed=1)}, "pool"),
            ({"evaluated": None}, "evaluated"),
            ({"validation": tiny.blobs(15, seed=6)}, "validation"),
            ({"fresh": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3))}, "structure"),
            ({"engine": "stacked"}, "engine"),
        ],
    )
    def test_is_refused_by_name(self, complete, change, field):
        made, _ = complete
        with pytest.raises(InvalidInputError, match=f"another design: .*`{field}` was .* Give a folder of its own"):
            pool(made.folder, **change)

    def test_the_same_examples_in_another_order_are_another_pool(self, complete):
        made, _ = complete
        data = tiny.blobs(60)
        back = Examples(data.images.flip(0), data.labels.flip(0))
        assert content_hash(back) == content_hash(data)
        with pytest.raises(InvalidInputError, match="another design: `pool` was"):
            pool(made.folder, data=back)

    def test_another_activation_of_equal_shape_is_another_model(self, complete):
        made, _ = complete

        def net():
            return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 3))

        with pytest.raises(InvalidInputError, match="another design: `structure` was"):
            pool(made.folder, fresh=net)

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("do not touch")
        with pytest.raises(InvalidInputError, match=r"holds 'thesis.txt' and no design.json"):
            pool(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidInputError, match="is a file"):
            pool(tmp_path / "file")


class TestDamagedFiles:
    @pytest.mark.parametrize("content", [b"", b"no archive", None], ids=["empty", "other", "cut"])
    def test_answers_are_named(self, copied, content):
        path = copied / "retrained" / "002.npz"
        path.write_bytes(path.read_bytes()[:-100] if content is None else content)
        with pytest.raises(DataError, match=r"retrained/002.npz cannot be read: .* Delete it"):
            pool(copied).retrained()

    def test_one_wrong_byte_is_found(self, copied):
        path = copied / "retrained" / "002.npz"
        content = bytearray(path.read_bytes())
        content[200] ^= 255
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"retrained/002.npz cannot be read"):
            pool(copied).retrained()

    def test_answers_to_other_questions_are_named(self, copied):
        np.savez(copied / "retrained" / "002.npz", margins=np.zeros(3), correct=np.ones(3, bool), seconds=1.0)
        with pytest.raises(DataError, match=r"002.npz cannot be read: it holds margins of shape \[3\], not \[75\]"):
            pool(copied).retrained()

    def test_weights_are_named(self, complete, copied):
        made, _ = complete
        (copied / "original" / "001.safetensors").write_bytes(b"12345678")
        (copied / method_folder(made).name / "001.npz").unlink()
        with pytest.raises(ShadowError, match=r"Shadow 1 \(finetune-.*original/001.safetensors cannot be read"):
            pool(copied).unlearned(METHOD)

    def test_a_record_is_named(self, copied):
        (copied / "design.json").write_text("{")
        with pytest.raises(DataError, match=r"design.json cannot be read"):
            pool(copied)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failing(Method):
    """Fails where a certain example is to be kept."""

    about = About("Failing", "F", "", None, "", ("forget",))

    def run(self, task, loop):
        kept = {hashlib.sha256(x.numpy().tobytes()).digest() for x, _ in task.parts["retain"]}
        if hashlib.sha256(tiny.blobs(60).images[1].numpy().tobytes()).digest() in kept:
            raise RuntimeError("out of ideas")


class TestFailures:
    def test_name_the_shadow_and_keep_the_others(self, copied):
        made = pool(copied)
        first = int(np.flatnonzero(made.trained[:, 1])[0])
        with pytest.raises(ShadowError, match=rf"Shadow {first} \(Failing-.*RuntimeError: out of ideas"):
            made.unlearned(Failing())
        ready = [p.name for p in copied.glob("Failing-*/*.npz")]
        assert ready == [f"{s:03}.npz" for s in range(first)]

    def test_an_interrupt_leaves_what_was_ready(self, tmp_path):
        def tell(text):
            if "2 of 4" in text:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pool(tmp_path / "pool", tell=tell).originals()
        assert sorted(p.name for p in tmp_path.glob("pool/original/*.npz")) == ["000.npz", "001.npz"]


class TestTheStackedEngine:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(tmp_path_factory):
        return pool(tmp_path_factory.mktemp("stacked") / "pool", engine="stacked", device="cpu")

    def test_agrees_with_the_other(self, made, complete):
        for name, found in arrays(made).items():
            assert np.abs(found - complete[1][name]).max() < 1e-3

    def test_resumes_with_the_same_numbers(self, made):
        before = made.originals()
        (made.folder / "original" / "002.npz").unlink()
        assert np.array_equal(pool(made.folder).originals(), before)  # "auto" goes on as the folder was begun

    def test_failures_say_which_stack(self, tmp_path):
        made = pool(tmp_path / "pool", engine="stacked", device="cpu", fresh=tiny.conv_net)
        with pytest.raises(ShadowError, match=r"Shadows 0, 1, 2, 3 \(original\).*cannot be trained in a stack"):
            made.originals()


class TestArguments:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"workers": 0}, "`workers` must be a whole number of at least 1"),
            ({"workers": 1.5}, "`workers` must be"),
            ({"shadows": 5}, "`shadows` must be an even"),
            ({"targets": []}, "`targets` must be indices"),
            ({"engine": "threads"}, "`engine` must be one of auto, processes, stacked"),
            ({"engine": "processes", "device": "cuda"}, "Processes compute on the CPU"),
            ({"data": DataLoader(tiny.blobs(60))}, "must be a data set, not DataLoader"),
        ],
    )
    def test_are_refused(self, tmp_path, change, says):
        with pytest.raises(InvalidInputError, match=says):
            pool(tmp_path / "pool", **change)
        assert not (tmp_path / "pool").exists()

    @pytest.mark.parametrize("part", ["validation", "evaluated"])
    def test_unseen_examples_of_the_pool_are_refused(self, tmp_path, part):
        both = tiny.blobs(80)
        with pytest.raises(SplitError, match=f"`pool` and `{part}` overlap"):
            pool(tmp_path / "pool", data=Subset(both, range(60)), **{part: Subset(both, range(59, 80))})

    def test_a_target_with_a_duplicate_is_refused(self, tmp_path):
        data = tiny.blobs(60)
        data.images[33] = data.images[30]
        with pytest.raises(InvalidInputError, match="1 targets, such as 30, have a duplicate"):
            pool(tmp_path / "pool", data=data)

    def test_labels_that_the_model_does_not_know_are_refused(self, tmp_path):
        other = Examples(tiny.blobs(15).images, tiny.blobs(15).labels + 2)
        with pytest.raises(DataError, match="labels of the evaluated set are outside the model's 3 classes"):
            pool(tmp_path / "pool", evaluated=other)

    @pytest.mark.parametrize("of", ["originals", "munba", FineTune, None])
    def test_other_kinds_of_models_are_refused(self, complete, of):
        with pytest.raises(InvalidInputError, match="Expected 'original' or 'retrained' or an instance of a method"):
            complete[0].answers(of)

    @pytest.mark.parametrize(("of", "shadow"), [("original", 4), ("original", -1), ("munba", 0)])
    def test_models_that_are_not_kept(self, complete, of, shadow):
        with pytest.raises(InvalidInputError, match="Weights are kept of original and retrained models 0 to 3"):
            complete[0].model(of, shadow)

    def test_a_method_without_a_name_for_its_settings_is_refused(self, complete):
        with pytest.raises(InvalidInputError, match="nameless or local function"):
            complete[0].unlearned(Retrain(recipe=RECIPE, fresh=lambda: nn.Linear(36, 3)))
