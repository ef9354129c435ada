import pytest
import torch
from torch import nn

import amnesty
from amnesty.errors import InvalidInputError
from amnesty.methods import UCE
from amnesty.tasks.diffusion import Concept
from amnesty.tasks.diffusion.parts import parts_of
from amnesty.tasks.diffusion.reading import last_tokens, readers, reading
from tests import tiny, tiny_diffusion
from tests.tiny_diffusion import FIVE, FOUR, SIX, THREE, task

OF_TEXTS = ("Stable Diffusion", "SDXL", "PixArt", "Stable Diffusion 3", "pixels")


def edited(wanted, **settings):
    return amnesty.unlearn(wanted, UCE(**settings), seed=0).model


def weights(model):
    return {name: layer.weight.detach().double() for name, layer in readers(model).items()}


def inputs(wanted, *asked):
    """What each layer gets of the last token of each prompt."""
    found, last = wanted.read(wanted.model, asked)
    return {name: rows[torch.arange(len(last)), last].double() for name, rows in found.items()}


class TestLimits:
    def test_a_strong_pull_changes_nothing(self):
        wanted = task(name="pixels")
        before, after = weights(wanted.model), weights(edited(wanted, keep=1e12))
        for name, weight in before.items():
            torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("name", OF_TEXTS)
    @pytest.mark.filterwarnings(tiny_diffusion.NUMPY)
    def test_without_a_pull_one_token_is_taken_for_the_other(self, name):
        wanted = task(name=name)
        model = edited(wanted, keep=1e-7, preserve=0.0, tokens="last")
        found = inputs(wanted, THREE, FOUR)

        for layer, weight in weights(wanted.model).items():
            own, anchor = found[layer]
            torch.testing.assert_close(weights(model)[layer] @ own, weight @ anchor, rtol=1e-3, atol=1e-4)
            assert (weight @ own - weight @ anchor).abs().max() > 1e-3

    def test_what_is_at_right_angles_stays(self):
        wanted = task(name="pixels")
        model = edited(wanted, preserve=0.0, tokens="last")
        for name, weight in weights(wanted.model).items():
            own = inputs(wanted, THREE)[name][0]
            other = torch.randn(len(own), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            other -= other @ own / (own @ own) * own
            torch.testing.assert_close(weights(model)[name] @ other, weight @ other, rtol=1e-4, atol=1e-5)

    def test_kept_prompts_are_read_as_before_where_they_outweigh(self):
        wanted = task(name="pixels", retain=[FIVE, SIX])
        weak, strong = (edited(wanted, preserve=share, tokens="last", keep=1e-3) for share in (0.0, 1e6))
        for name, weight in weights(wanted.model).items():
            kept = inputs(wanted, FIVE, SIX)[name]
            gap = [((weights(m)[name] - weight) @ kept.T).abs().max() for m in (weak, strong)]
            assert gap[1] < 1e-4 < gap[0]


def minimised(weight, rows, erase, preserve, keep):
    """Go downhill on what UCE minimises, from the weights as they are."""
    found = weight.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([found], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        erased = (found @ rows["own"].T - weight @ rows["wanted"].T).square().sum()
        kept = ((found - weight) @ rows["kept"].T).square().sum()
        loss = erase * erased + preserve * kept + keep * (found - weight).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return found.detach()


class TestFormula:
    @pytest.mark.parametrize("tokens", ["all", "last"])
    def test_is_the_least_squares_solution(self, tokens):
        wanted = task(name="pixels", forget=Concept([THREE, "three"], FOUR), retain=[FIVE, SIX])
        settings = {"erase": 2.0, "preserve": 0.7, "keep": 0.3}
        model = edited(wanted, tokens=tokens, **settings)
        asked = {"own": [THREE, "three"], "wanted": [FOUR, FOUR], "kept": [FIVE, SIX]}
        rows = {key: self.rows(wanted, prompts, tokens) for key, prompts in asked.items()}

        for name, weight in weights(wanted.model).items():
            slowly = minimised(weight, {key: found[name] for key, found in rows.items()}, **settings)
            torch.testing.assert_close(weights(model)[name], slowly, rtol=1e-3, atol=1e-4)

    def rows(self, wanted, prompts, tokens):
        if tokens == "last":
            return inputs(wanted, *prompts)
        found, _ = wanted.read(wanted.model, prompts)
        return {name: rows.flatten(0, 1).double() for name, rows in found.items()}

    def test_without_an_anchor_it_is_no_prompt(self):
        wanted = task(name="pixels", forget=Concept(THREE), retain=[FIVE])
        model = edited(wanted, keep=1e-7, preserve=0.0, tokens="last")
        for name, weight in weights(wanted.model).items():
            own, none = inputs(wanted, THREE, None)[name]
            torch.testing.assert_close(weights(model)[name] @ own, weight @ none, rtol=1e-3, atol=1e-4)

    def test_biases_are_left_out_on_both_sides(self):
        wanted = task(name="PixArt")
        layers = readers(wanted.model)
        assert all(layer.bias is not None for layer in layers.values())
        model = edited(wanted)
        for name, layer in readers(model).items():
            assert torch.equal(layer.bias, layers[name].bias) and not torch.equal(layer.weight, layers[name].weight)

    def test_nothing_but_the_readers_changes_and_the_history_says_how_much(self):
        wanted = task()
        outcome = amnesty.unlearn(wanted, UCE(), seed=0)
        before, after = tiny.weights(wanted.model), tiny.weights(outcome.model)
        changed = {name for name in before if not torch.equal(before[name], after[name])}

        assert changed == {f"{name}.weight" for name in readers(wanted.model)}
        assert [*outcome.history[0]] == ["step", "epoch", "changed", "length", "relative_length"]


class TestBadInput:
    @pytest.mark.parametrize(("name", "title"), [("classes", "U-Net told classes"), ("DiT", "DiT")])
    def test_models_that_know_classes(self, name, title):
        with pytest.raises(InvalidInputError, match=f"A {title} has no plain linear layers that read texts alone"):
            edited(task(name=name))

    @pytest.mark.parametrize("train", ["selfattn", "noxattn"])
    def test_frozen_layers(self, train):
        with pytest.raises(
            InvalidInputError, match=r"UCE edits 'backbone\..*attn2\.to_k' .* train='xattn_kv', or mo"
        ):
            edited(task(train=train))

    @pytest.mark.parametrize("train", ["xattn", "selfattn"])
    def test_layers_with_adapters(self, train):
        with pytest.raises(InvalidInputError, match="adapters on them|make the task with train"):
            edited(task(train=train, lora=2))


class TestReading:
    @pytest.mark.parametrize("name", OF_TEXTS)
    @pytest.mark.filterwarnings(tiny_diffusion.NUMPY)
    def test_layers_get_nothing_but_the_prompt(self, name):
        wanted = task(name=name)
        rows = torch.tensor(wanted.process.conditions.known_rows([THREE, FOUR]))
        questions = [wanted.probe, type(wanted.probe)(*(wanted.probe.images + 1, wanted.probe.times, {}))]
        one, other = (reading(wanted.model, question, wanted.process.conditions, rows) for question in questions)

        assert one.keys() == readers(wanted.model).keys()
        for key, found in one.items():
            assert torch.equal(found, other[key]) and found.shape[0] == 2 and found.dim() == 3
            assert not torch.equal(found[0], found[1])

    def test_leaves_no_hooks_and_the_mode(self):
        wanted = task(name="pixels")
        wanted.model.train()
        wanted.read(wanted.model, [THREE])
        assert wanted.model.training
        assert not any(layer._forward_pre_hooks for layer in readers(wanted.model).values())

    def test_of_many_prompts_at_once(self):
        wanted = task(name="pixels")
        many = [f"the digit {'one ' * (k % 4)}two" for k in range(18)]
        together, last = wanted.read(wanted.model, many)
        alone, _ = wanted.read(wanted.model, many[17:])

        assert last.tolist() == [3 + k % 4 for k in range(18)]
        for name, rows in together.items():
            torch.testing.assert_close(rows[17], alone[name][0])

    def test_last_token_before_the_end(self):
        parts = parts_of(tiny_diffusion.stable())
        assert last_tokens(parts, ["three", THREE, None]).tolist() == [1, 3, 0]  # `<bos> the digit three <eos>`

    def test_plain_linear_layers_only(self):
        wanted = task(train="xattn", lora=2)
        assert not any(type(m) is nn.Linear and n.endswith("attn2.to_k") for n, m in wanted.model.named_modules())
        with pytest.raises(InvalidInputError, match="or there are adapters on them"):
            readers(wanted.model)
