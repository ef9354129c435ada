import re

import pytest
import torch

import amnesty
from amnesty.bargaining import Nash
from amnesty.errors import InvalidInputError
from amnesty.methods import LUR, METHODS, FineTune, GradientAscent, MUNBa, SalUnSoft
from amnesty.tasks.diffusion import Concept, Denoiser
from amnesty.tasks.diffusion.losses import ExampleLoss
from tests import tiny, tiny_diffusion
from tests.tasks.diffusion.running import moved, quick
from tests.tiny_diffusion import FIVE, FOUR, GENERATORS, SIX, THREE, Pictures, task

GENERAL = [name for name, method in METHODS.items() if not method.classifiers_only]
OF_TEXTS_ALONE = {"uce"}
"""What edits layers that read texts, which models of classes do not have."""


@pytest.fixture(scope="module")
def simple():
    return task(name="classes")


def state_of(pipe):
    """All that a caller may see of a pipeline."""
    parts = tiny_diffusion.modules(pipe)
    return {
        "weights": {name: tiny.weights(part) for name, part in parts.items()},
        "flags": [p.requires_grad for part in parts.values() for p in part.parameters()],
        "modes": [m.training for part in parts.values() for m in part.modules()],
        "gradients": [p.grad is None for part in parts.values() for p in part.parameters()],
        "scheduler": (dict(pipe.scheduler.config), pipe.scheduler.num_inference_steps),
        "checker": pipe.safety_checker,
        "parts": {name: id(part) for name, part in pipe.components.items()},
        "config": str(pipe.config),
    }


def same(before, after):
    weights = [before.pop("weights"), after.pop("weights")]
    return before == after and all(tiny.same(weights[0][name], weights[1][name]) for name in weights[0])


class TestMethods:
    @pytest.mark.parametrize("kind", ["Stable Diffusion", "classes"])
    @pytest.mark.parametrize("name", GENERAL)
    def test_each_runs_and_moves_its_group_alone_or_says_before_why_not(self, name, kind):
        wanted, steps = task(name=kind), []

        def run():
            return amnesty.unlearn(wanted, quick(name), seed=0, progress=lambda *_: steps.append(1))

        if kind == "classes" and name in OF_TEXTS_ALONE:
            with pytest.raises(InvalidInputError, match="no plain linear layers that read texts alone"):
                run()
            assert not steps
            return
        outcome = run()
        group = {name for name, p in wanted.model.named_parameters() if p.requires_grad}
        found = moved(wanted, outcome)
        assert found and found <= group < {name for name, _ in wanted.model.named_parameters()}
        assert outcome.history and len(steps) == len(outcome.history)
        assert isinstance(outcome.model, Denoiser) and not outcome.model.training

    @pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.classifiers_only])
    def test_others_say_that_they_need_a_classifier(self, name, simple):
        fields = METHODS[name].__dataclass_fields__
        settings = {"recipe": amnesty.Recipe(), "fresh": tiny.mlp, "method": FineTune()}
        method = METHODS[name](**{key: value for key, value in settings.items() if key in fields})
        with pytest.raises(InvalidInputError, match="unlearns classifiers only; this is a Diffusion task"):
            amnesty.unlearn(simple, method)

    @pytest.mark.parametrize("name", [name for name in GENERATORS if name not in ("Stable Diffusion", "classes")])
    def test_every_kind_of_generator_is_moved_within_its_default_group(self, name):
        wanted = task(name=name)
        found = moved(wanted, amnesty.unlearn(wanted, quick("munba"), seed=0))
        assert found and found <= {n for n, p in wanted.model.named_parameters() if p.requires_grad}

    @pytest.mark.parametrize("kind", ["pixels", "classes", "PixArt", "Stable Diffusion 3"])
    def test_attention_allows_a_second_derivative(self, kind):
        wanted = task(name=kind)
        exact, first = (looked(wanted, how) for how in ("exact", "none"))
        assert exact["forget_norm"] != first["forget_norm"] > 0

    def test_finite_differences_agree_with_it(self):
        wanted = task(name="pixels")
        first, exact, near = (looked(wanted, how) for how in ("none", "exact", "finite-difference"))
        curvature = exact["forget_norm"] - first["forget_norm"]
        assert near["forget_norm"] - first["forget_norm"] == pytest.approx(curvature, rel=0.05)

    def test_unseen_examples_are_not_known(self, simple):
        with pytest.raises(InvalidInputError, match=r"MUNBa\(wish='unseen'\) must know"):
            amnesty.unlearn(simple, MUNBa(wish="unseen"))
        with pytest.raises(InvalidInputError, match="A generator has no unseen examples"):
            amnesty.unlearn(simple, MUNBa(wish="shifted"))

    def test_it_draws_something_else_for_the_concept(self):
        wanted = task(name="classes", retain_loss="distill")
        role, batch = wanted.wished("auto"), wanted.parts["forget"][[*range(6)]]
        outcome = amnesty.unlearn(wanted, MUNBa(at_least=12, rounds=1, optimizer="adam", lr=1e-2), seed=0)
        before, after = (
            role.loss(model, batch, torch.Generator().manual_seed(0)).item()
            for model in (wanted.model, outcome.model)
        )
        assert after < 0.5 * before


def looked(wanted, curvature):
    """The record of a step of LUR, whose inner step is long enough to be seen."""
    method = LUR.bargained(at_least=1, epochs=1, curvature=curvature, step=50.0, trim=0.0, lr=0.1)
    return amnesty.unlearn(wanted, method, seed=0).history[1]


class TestPlayers:
    def test_the_retaining_one_abstains_where_nothing_is_lost_yet(self):
        wanted = task(name="classes", retain_loss="distill")
        history = amnesty.unlearn(wanted, MUNBa(at_least=3, rounds=1, batch_size=4), seed=0).history

        assert history[0]["retain_loss"] == 0 and history[0]["retain_norm"] == 0
        assert history[0]["forget_norm"] > 0 and history[1]["retain_loss"] > 0
        assert history[1]["retain_weight"] > 0 and moved(wanted, amnesty.unlearn(wanted, quick("munba"), seed=0))

    def test_each_concept_is_one(self):
        wanted = task(forget=TWO, retain=Pictures(4, [SIX]))
        history = amnesty.unlearn(wanted, MUNBa(at_least=2, rounds=1, rule=Nash()), seed=0).history
        assert {"three_weight", "five_weight", "retain_weight"} <= set(history[0])

    def test_the_union_is_all_of_them(self):
        wanted = task(forget=TWO, retain=Pictures(4, [SIX]))
        wanted.check()
        union, parts = wanted.parts["forget"], list(wanted.sets.values())
        found = [union[k] for k in range(len(union))]
        one_by_one = [part[k] for part in parts for k in range(len(part))]

        assert len(union) == 6 and [int(caption) for _, caption in found] == [0, 0, 0, 0, 1, 1]
        for (latent, caption), (other, its) in zip(found, one_by_one, strict=True):
            assert torch.equal(latent, other) and caption == its
        outcome = amnesty.unlearn(wanted, GradientAscent(epochs=1, batch_size=3), seed=0)
        assert set(outcome.history[0]) >= {"forget_loss"} and len(outcome.history) == 2

    @pytest.mark.parametrize("method", [GradientAscent(epochs=2, batch_size=4), SalUnSoft(epochs=2, batch_size=4)])
    def test_each_image_is_met_once_in_a_pass(self, monkeypatch, method):
        wanted, seen, before = task(name="classes"), [], ExampleLoss.noised

        def noised(self, batch, *rest, **options):
            seen.extend(zip(batch[0].flatten(1).sum(1).tolist(), batch[1].tolist(), strict=True))
            return before(self, batch, *rest, **options)

        monkeypatch.setattr(ExampleLoss, "noised", noised)
        amnesty.unlearn(wanted, method, seed=0)
        images = wanted.parts["forget"].tensors[0].flatten(1).sum(1).tolist()
        forgotten = [image for image, caption in seen if caption == 0]
        assert sorted(forgotten[:6]) == sorted(forgotten[6:]) == sorted(images) and forgotten[:6] != forgotten[6:]


TWO = {"three": Concept(THREE, FOUR, Pictures(4)), "five": Concept(FIVE, SIX, Pictures(2, seed=5))}


class TestWhatMoves:
    @pytest.mark.parametrize(
        ("train", "pattern"),
        [
            (None, r"\.attn2\."),
            ("xattn_kv", r"\.attn2\.to_[kv]\."),
            ("selfattn", r"\.attn1\."),
            ("noxattn", r"^(?!.*\.attn2\.)(?!backbone\.(time_embedding|conv_out|conv_norm_out)\.)"),
            (re.compile("mid_block"), r"^backbone\.mid_block"),
            ("full", ""),
        ],
    )
    def test_a_group(self, train, pattern):
        wanted = task(name="pixels", train=train)
        found = moved(wanted, amnesty.unlearn(wanted, GradientAscent(epochs=1, batch_size=6, lr=0.1), seed=0))
        assert found and all(re.search(pattern, name) for name in found)

    def test_masks(self):
        wanted = task(name="classes")
        name = next(n for n, p in wanted.model.named_parameters() if p.requires_grad)
        mask = torch.rand(wanted.model.get_parameter(name).shape, generator=torch.Generator().manual_seed(0)) < 0.5
        outcome = amnesty.unlearn(
            wanted, quick("munba", optimizer="adam", weight_decay=0.1), seed=0, masks={name: mask}
        )
        before, after = (model.get_parameter(name) for model in (wanted.model, outcome.model))

        assert torch.equal(before[~mask], after[~mask]) and not torch.equal(before[mask], after[mask])


class TestTheCaller:
    @pytest.mark.parametrize("options", [{"lora": 2}, {"gradient_checkpointing": True, "train": "full"}])
    def test_pipeline_stays_as_it_was(self, options):
        pipe = tiny_diffusion.stable()
        pipe.unet.train()
        pipe.unet.conv_in.requires_grad_(False)
        before = state_of(pipe)
        wanted = task(pipe, **options)
        outcome = amnesty.unlearn(wanted, quick("munba"), seed=0)
        wanted.drawer(outcome.model, steps=2)([THREE], [0])
        wanted.pipeline_of(outcome.model)

        assert same(before, state_of(pipe)) and not pipe.unet.is_gradient_checkpointing

    def test_random_numbers_stay(self):
        torch.manual_seed(3)
        state = torch.get_rng_state()
        amnesty.unlearn(task(name="classes"), quick("munba"), seed=0)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("loss", ["anchor", "esd", "misalign"])
    def test_the_teacher_keeps_its_bits(self, loss):
        wanted = task(name="classes", train="full", forget_loss=loss, retain_loss="distill")
        before = tiny.weights(wanted.original)
        amnesty.unlearn(wanted, quick("munba"), seed=0)
        assert tiny.same(before, tiny.weights(wanted.original))


class TestInside:
    def test_no_generator_comes_of_training_on_some_prompts(self):
        assert not task(name="classes").retrainable and not task(name="classes").knows_unseen

    def test_probe_asks_for_what_is_to_be_forgotten(self):
        wanted = task(forget=TWO, retain=[SIX])
        assert wanted.probe.images.shape == (2, 4, 8, 8) and wanted.probe.told["hidden"].shape == (2, 10, 32)
        assert torch.equal(wanted.probe.images, wanted.probe.images)

    def test_checked_once(self, monkeypatch):
        wanted = task(name="classes")
        wanted.check()
        monkeypatch.setattr(Denoiser, "predict", None)
        wanted.check()
