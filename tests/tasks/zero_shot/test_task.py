import re

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset

import amnesty
from amnesty.bargaining import Nash
from amnesty.data import Classes, Examples, split
from amnesty.errors import (
    CheckpointError,
    DataError,
    InterruptedRunError,
    InvalidInputError,
    ModelError,
    SplitError,
    UnknownNameError,
)
from amnesty.methods import LUR, METHODS, SSD, FineTune, MUNBa
from amnesty.tasks import Seen
from amnesty.tasks.zero_shot import RETAIN_LOSSES
from amnesty.tasks.zero_shot.losses import repelled
from amnesty.tasks.zero_shot.pixels import ImageFeatures
from amnesty.training import Checkpoints
from tests import tiny, tiny_clip
from tests.tiny_clip import DIGITS, processor, untrained

TEMPLATES = ("the digit {}",)
QUICK = {"epochs": 1, "batch_size": 16}


class Pairs(Dataset):
    """Images with captions, as a user's data set has them."""

    def __init__(self, count=24, captions=None):
        self.images = tiny_clip.images("train").images[:count]
        self.captions = captions or tiny_clip.captions("train")[:count]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "caption": self.captions[index]}


def known(count=80, offset=0):
    data = tiny_clip.images("train")
    rows = slice(offset, offset + count)
    return Examples(data.images[rows], data.labels[rows], DIGITS)


def parts(data=None, classes=("three",)):
    data = known() if data is None else data
    found = split(data, Classes(list(classes))).parts(data)
    return {"forget": found["forget"], "retain": found["retain"]}


def task(model=None, **options):
    given = {**parts(), "templates": TEMPLATES, **options}
    return amnesty.ZeroShot(untrained() if model is None else model, processor(), DIGITS, **given)


def moved(task, outcome):
    """Names of the parameters that are not what they were."""
    before = dict(task.model.named_parameters())
    return {n for n, p in outcome.model.named_parameters() if not torch.equal(p, before[n])}


class TestMethods:
    @pytest.mark.parametrize("name", METHODS)
    def test_each_runs_or_says_before_why_not(self, name):
        fields = METHODS[name].__dataclass_fields__
        settings = {key: value for key, value in QUICK.items() if key in fields}
        settings |= {"at_least": 2} if "at_least" in fields else {}
        settings |= {"rounds": 1} if "rounds" in fields else {}
        steps = []
        if "recipe" in METHODS[name].about.needs:
            settings["recipe"] = amnesty.Recipe(epochs=1, batch_size=16)
        if "fresh" in fields:
            settings["fresh"] = untrained
        settings |= {"fine_epochs": 1} if "fine_epochs" in fields else {}
        if name == "omp":
            settings |= {"rewind_epochs": 0, "method": FineTune(epochs=1)}
        wanted, method = task(), METHODS[name](**settings)

        def run():
            return amnesty.unlearn(wanted, method, seed=0, progress=lambda *_: steps.append(1))

        if name in CANNOT:
            with pytest.raises(InvalidInputError):
                run()
            assert not steps
        else:
            found = moved(wanted, run())
            assert found and all("text_model" in n and "self_attn" in n for n in found)

    def test_the_callers_model_stays(self):
        model = untrained()
        before, flags = tiny.weights(model), [p.requires_grad for p in model.parameters()]
        amnesty.unlearn(task(model), MUNBa(at_least=2, rounds=1), seed=0)
        assert tiny.same(before, tiny.weights(model)) and flags == [p.requires_grad for p in model.parameters()]

    def test_a_trained_one_forgets_the_class_and_keeps_the_others(self):
        model, data = tiny_clip.trained(), tiny_clip.images("train")
        holdout = tiny_clip.images("test")
        given = parts(data)
        wanted = amnesty.ZeroShot(
            model, processor(), DIGITS, tiny_clip.TEMPLATES, **given, holdout=holdout, train="text"
        )
        outcome = amnesty.unlearn(wanted, MUNBa(), seed=0)
        before, after = (amnesty.evaluate(wanted, m) for m in (wanted.model, outcome.model))
        assert after["holdout_forgotten_accuracy"] <= 0.05 < before["holdout_forgotten_accuracy"]
        assert after["retain_accuracy"] >= before["retain_accuracy"] - 0.05

    def test_several_classes_are_several_players(self):
        data = known()
        rows = {name: [i for i, c in enumerate(data.labels) if DIGITS[c] == name] for name in ("three", "five")}
        rest = [i for i in range(len(data)) if i not in rows["three"] + rows["five"]]
        wanted = task(forget={name: Subset(data, chosen) for name, chosen in rows.items()}, retain=Subset(data, rest))
        outcome = amnesty.unlearn(wanted, MUNBa(at_least=2, rounds=1, rule=Nash()), seed=0)
        assert {"three_weight", "five_weight", "retain_weight"} <= set(outcome.history[0])

    def test_resumed_it_ends_in_the_same_bits(self, tmp_path):
        method = MUNBa(at_least=6, rounds=1, forget_batch_size=8, batch_size=16)
        whole = amnesty.unlearn(task(), method, seed=1)
        steps = []

        def run(last):
            saved = Checkpoints(tmp_path, minutes=None, resume=True, stop=lambda: len(steps) >= last, tell=str)
            return amnesty.unlearn(task(), method, seed=1, checkpoints=saved, progress=lambda *_: steps.append(1))

        with pytest.raises(InterruptedRunError):
            run(3)
        assert tiny.same(tiny.weights(run(1000).model), tiny.weights(whole.model))

    def test_other_templates_are_another_run(self, tmp_path):
        method = MUNBa(at_least=2, rounds=1)
        amnesty.unlearn(task(), method, seed=1, checkpoints=Checkpoints(tmp_path, tell=str))
        with pytest.raises(CheckpointError, match="prompts"):
            amnesty.unlearn(
                task(templates=("a photo of the {}",)),
                method,
                checkpoints=Checkpoints(tmp_path, resume=True, tell=str),
            )


CANNOT = {"boundary_expanding", "boundary_shrink", "ct", "omp", "retrain", "esd", "uce"}
"""What needs a layer for the logits, square kernels, pixels where there are image features, training anew, or an
image generator."""


class TestWhatMoves:
    @pytest.mark.parametrize(
        ("train", "pattern"),
        [
            ("text_attention", r"text_model.*self_attn"),
            ("image", r"vision_model|visual_projection"),
            ("projections", r"projection"),
            (re.compile("text_model.*mlp"), r"text_model.*mlp"),
        ],
    )
    def test_a_group(self, train, pattern):
        wanted = task(train=train)
        found = moved(wanted, amnesty.unlearn(wanted, LUR(epochs=1, trim=0.0, wish="relabel"), seed=0))
        assert found and all(re.search(pattern, name) for name in found)

    def test_adapters_alone(self):
        model = untrained()
        wanted = task(model, lora=2)
        found = moved(wanted, amnesty.unlearn(wanted, MUNBa(at_least=3, rounds=1, lr=0.1), seed=0))
        assert found and all("lora" in name for name in found)
        assert not any("lora" in name for name, _ in model.named_parameters())

    def test_adapters_begin_alike_and_leave_the_generator(self):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first, second = (task(lora=2).model for _ in range(2))
        assert tiny.same(tiny.weights(first), tiny.weights(second)) and torch.equal(torch.get_rng_state(), state)

    def test_a_one_shot_edit(self):
        wanted = task()
        assert moved(wanted, amnesty.unlearn(wanted, SSD(), seed=0)) <= {
            n for n, p in wanted.model.named_parameters() if p.requires_grad
        }


class TestCaching:
    def test_features_of_a_tower_that_does_not_move_are_computed_once(self):
        wanted = task()
        assert isinstance(wanted.parts["retain"], ImageFeatures)
        inputs, labels = wanted.parts["retain"][[0, 3]]
        pixels = tiny_clip.normalised(parts()["retain"][0][0])[None]
        with torch.no_grad():
            torch.testing.assert_close(wanted.model.image_features(pixels)[0], inputs[0])
        assert inputs.shape == (2, 32) and labels.shape == (2,)

    def test_cached_or_not_a_run_ends_alike(self):
        method = MUNBa(at_least=3, rounds=1)
        one, other = (amnesty.unlearn(task(cache=cache), method, seed=0).model for cache in (True, False))
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)

    def test_another_tower_is_shown_the_pixels(self):
        cached, asked = (task(cache=cache) for cache in (True, False))
        other = untrained(seed=1)
        found = [t.predict(t.classifier(other), "retain").logits for t in (cached, asked)]
        torch.testing.assert_close(found[0], found[1])

    def test_they_follow_nothing_where_the_tower_moves(self):
        wanted = task(train="attention")
        assert wanted.parts["retain"][[0]][0].shape == (1, 3, 8, 8)


class TestRetaining:
    @pytest.mark.parametrize(
        "loss", [*RETAIN_LOSSES, ("ce", "contrastive"), ("distill", "ce_kept"), ("feature", "ce")]
    )
    def test_the_retaining_player_starts_where_it_says(self, loss):
        names = (loss,) if isinstance(loss, str) else loss
        pairs = Pairs() if "contrastive" in names else None
        wanted = task(retain_loss=loss, pairs=pairs, train="all")
        wanted.check()
        role = wanted.preserved()
        sources = [wanted.sources[part] for part in (role.part, role.beside) if part]
        batches = [next(iter(amnesty.data.Batches(s, 16).iterate())) for s in sources]
        batch = batches[0] if len(batches) == 1 else tuple(batches)
        value = role.loss(wanted.model, batch, torch.Generator().manual_seed(0))
        assert value.dim() == 0 and value.isfinite()
        if set(names) <= {"distill", "feature"}:
            assert value.item() == pytest.approx(0.0, abs=1e-5)  # nothing is lost yet
        else:
            assert value.item() > 0.1

    def test_kept_names_alone_leave_the_forgotten_one_out(self):
        wanted = task(retain_loss="ce_kept", train="projections")
        wanted.check()
        objective = wanted.preserved().loss.objective

        said = torch.zeros(1, 10)
        said[0, 3] = 100.0  # the forgotten class: without it, the rest is uniform
        value = objective(Seen(torch.zeros(1, 2), torch.tensor([1]), said), torch.Generator())
        assert value.item() == pytest.approx(torch.tensor(9.0).log().item(), rel=1e-5)

    def test_a_bank_is_what_is_distilled(self):
        wanted = task(retain_loss="distill", bank=["the red digit", "the blue digit", "a photo of the number two"])
        outcome = amnesty.unlearn(wanted, MUNBa(at_least=3, rounds=1), seed=0)
        assert moved(wanted, outcome)

    @pytest.mark.parametrize("loss", ["contrastive", ("ce", "contrastive")])
    def test_pairs_are_used(self, loss):
        wanted = task(retain_loss=loss, pairs=Pairs())
        assert moved(wanted, amnesty.unlearn(wanted, MUNBa(at_least=3, rounds=1), seed=0))

    def test_equal_captions_are_all_right(self):
        pairs = Pairs(4, ["the red digit"] * 4)
        pairs.images = pairs.images[:1].expand(4, -1, -1, -1)
        wanted = task(retain_loss="contrastive", pairs=pairs)
        batch = next(iter(amnesty.data.Batches(wanted.sources["pairs"], 4).iterate()))
        value = wanted.preserved().loss(wanted.model, batch, torch.Generator())
        assert value.item() == pytest.approx(torch.tensor(4.0).log().item(), rel=1e-4)


class TestForgetting:
    @pytest.mark.parametrize("loss", ["uniform", "repel", "anchor"])
    def test_other_wishes(self, loss):
        wanted = task(forget_loss=loss, anchor="four" if loss == "anchor" else None)
        wanted.check()
        role = wanted.wished("auto")
        batch = next(iter(amnesty.data.Batches(wanted.sources["forget"], 16).iterate()))
        before = role.loss(wanted.model, batch, torch.Generator()).item()
        outcome = amnesty.unlearn(wanted, MUNBa(at_least=10), seed=0)
        assert role.loss(outcome.model, batch, torch.Generator()).item() < before
        assert not wanted.knows_unseen

    def test_repelled_it_is_no_nearer_than_the_rest(self):

        said = torch.tensor([[5.0, 1.0, 3.0], [2.0, 9.0, 9.0]])
        found = repelled(Seen(torch.zeros(2, 1), torch.tensor([0, 0]), said), torch.Generator())
        assert found.tolist() == [2.5, 0.0]  # Huber of 5 - 2, and of what lies below


class Unreadable(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return "no image", 0


class Nameless(Dataset):
    """A data set that reads batches and has no labels."""

    batched = True

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"image": torch.zeros(len(index), 3, 8, 8)}


SHARED = known(20)


def labelled(labels):
    return Examples(known(len(labels)).images, torch.tensor(labels), DIGITS)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "said"),
        [
            ({"train": "text_atention"}, UnknownNameError, "text_attention"),
            ({"train": re.compile("x")}, InvalidInputError, "everything would be frozen"),
            ({"templates": ["a photo"]}, InvalidInputError, "one slot"),
            ({"templates": ["the " * 9 + "{}"]}, InvalidInputError, "has 12 tokens, the model reads 10"),
            ({"paraphrases": ["the " * 9 + "{}"]}, InvalidInputError, "has 12 tokens"),
            ({"paraphrases": ["none"]}, InvalidInputError, "one slot"),
            ({"retain_loss": "mse"}, UnknownNameError, "retain loss 'mse'"),
            ({"retain_loss": ()}, InvalidInputError, "one or more"),
            ({"retain_loss": 3}, InvalidInputError, "one or more"),
            ({"retain_loss": ("ce", "ce")}, InvalidInputError, "different losses"),
            ({"retain_loss": "contrastive"}, InvalidInputError, "needs `pairs`"),
            ({"pairs": Pairs()}, InvalidInputError, "are for `retain_loss='contrastive'`"),
            ({"bank": ["a"]}, InvalidInputError, "for `retain_loss='distill'`"),
            ({"bank": "a", "retain_loss": "distill"}, InvalidInputError, "must list texts"),
            ({"retain_loss": "feature"}, InvalidInputError, "does not move"),
            ({"forget_loss": "forgot"}, UnknownNameError, "forget loss"),
            ({"forget_loss": "anchor"}, InvalidInputError, "`anchor` is a class name"),
            ({"anchor": "four"}, InvalidInputError, "goes with"),
            ({"forget_loss": "anchor", "anchor": "for"}, UnknownNameError, "Did you mean 'four'"),
            ({"lora": {"nothing": 1}}, InvalidInputError, "refused by peft"),
            ({"lora": 2, "train": re.compile(".*layer_norm")}, InvalidInputError, "needs linear layers"),
            ({"pairs": DataLoader(Pairs()), "retain_loss": "contrastive"}, InvalidInputError, "found a `DataLoader`"),
            ({"forget": None}, InvalidInputError, "found none"),
            ({"forget": SHARED, "retain": Subset(SHARED, [0, 1])}, SplitError, "overlap"),
        ],
    )
    def test_before_any_work(self, options, error, said):
        with pytest.raises(error, match=re.escape(said)):
            task(**options)

    @pytest.mark.parametrize(
        ("options", "error", "said"),
        [
            ({"forget": labelled([11, 11])}, DataError, "outside the model's 10 classes"),
            ({"forget": Unreadable()}, DataError, "image processor failed"),
            (
                {"pairs": Pairs(2, ["the red digit", "the " * 11]), "retain_loss": "contrastive"},
                InvalidInputError,
                "has 13 tokens",
            ),
            ({"pairs": Pairs(2, ["the red digit", 3]), "retain_loss": "contrastive"}, DataError, "a text"),
            ({"forget_loss": "anchor", "anchor": "three"}, InvalidInputError, "all of 'three' is to be forgotten"),
            ({"forget": Nameless()}, DataError, "lacks its image or label"),
            (
                {"retain_loss": "distill", "bank": ["the red digit", "The digit three"]},
                InvalidInputError,
                "`bank` mentions 'three', which is to be forgotten, in 1 of 2 texts, such as 'The digit three'",
            ),
            ({"pairs": Pairs(2, ["red", " "]), "retain_loss": "contrastive"}, InvalidInputError, "must have words"),
            (
                {"forget": Examples(known(4).images * 2 - 1, torch.tensor([3, 3, 3, 3]))},
                DataError,
                "must be in [0, 1]",
            ),
            (
                {"transfers": {"c": amnesty.Transfer(known(8), tiny_clip.COLOURS, ("the {}",))}},
                DataError,
                "4 classes",
            ),
        ],
    )
    def test_when_the_data_is_read(self, options, error, said):
        with pytest.raises(error, match=re.escape(said)):
            amnesty.unlearn(task(**options), MUNBa(at_least=1, rounds=1))

    @pytest.mark.parametrize("given", [None, "clip", (1, 2, 3)])
    def test_a_processor_must_be_one(self, given):
        with pytest.raises(InvalidInputError, match="`processor` must be"):
            amnesty.ZeroShot(untrained(), given, DIGITS, TEMPLATES, **parts())

    def test_images_of_another_size(self):
        wrong = Examples(torch.zeros(4, 3, 16, 16), torch.tensor([3, 3, 3, 3]))
        with pytest.raises(ModelError, match=r"\[3, 8, 8\], found \[3, 16, 16\]"):
            amnesty.ZeroShot(untrained(), (tiny_clip.tokenizer(), None), DIGITS, TEMPLATES, forget=wrong).check()

    def test_other_models(self):
        with pytest.raises(ModelError, match="text and an image tower"):
            amnesty.ZeroShot(tiny.conv_net(), processor(), DIGITS, TEMPLATES, **parts())


class TestData:
    def test_pixel_values_need_no_processor(self):
        data = known()
        ready = Examples(tiny_clip.normalised(data.images), data.labels, DIGITS)
        pair = (tiny_clip.tokenizer(), None)
        one = amnesty.ZeroShot(untrained(), pair, DIGITS, TEMPLATES, **parts(ready))
        torch.testing.assert_close(one.parts["forget"][[0]][0], task().parts["forget"][[0]][0])

    def test_pil_images_and_uint8_come_to_the_same(self):
        from PIL import Image

        data = known(30)
        bytes_ = (data.images * 255).round().to(torch.uint8)

        class Pictures(Dataset):
            def __len__(self):
                return len(bytes_)

            def __getitem__(self, index):
                return Image.fromarray(bytes_[index].permute(1, 2, 0).numpy()), int(data.labels[index])

        one, other = Pictures(), Examples(bytes_, data.labels, DIGITS)
        rows = [i for i in range(30) if data.labels[i] == 3]
        found = [task(forget=Subset(d, rows), retain=None, cache=False).parts["forget"][[0]][0] for d in (one, other)]
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0.02)

    def test_loaders_give_pixel_values(self):
        data = parts()
        ready = (
            Examples(tiny_clip.normalised(data["retain"][[0, 1, 2]][0]), data["retain"][[0, 1, 2]][1], DIGITS)
            if False
            else None
        )
        assert ready is None
        batches = DataLoader(Examples(torch.zeros(4, 3, 8, 8), torch.tensor([1, 2, 1, 2])), 2)
        task(retain=batches).check()
