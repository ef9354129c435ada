import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.data import DataLoader

from amnesty.data import Examples
from amnesty.errors import InvalidInputError, LossError, ModelError, NonFiniteError
from amnesty.weights import dataset_gradient, squared_gradients
from tests import tiny, vision
from tests.weights import by_hand, zoo

MODELS = {**tiny.MODELS, "residual": zoo.residual, "transformer": zoo.transformer}
KINDS = ["true", "expected", "norm"]


def close(found, expected, rtol=1e-4):
    assert found.keys() == expected.keys()
    largest = max(value.abs().max() for value in expected.values())
    for name, value in expected.items():
        assert_close(
            found[name], value, rtol=rtol, atol=1e-6 * float(largest), msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def model(request) -> nn.Module:
    return request.param()


class TestDatasetGradient:
    @pytest.mark.parametrize("size", [1, 7, 256])
    def test_is_the_sum_over_the_examples(self, model, size):
        data = zoo.examples(20)
        with zoo.untouched(model):
            found = dataset_gradient(model, data, batch_size=size)
        each = by_hand.gradients(model, data)
        close(found, {name: sum(g[name] for g in each) for name in each[0]})

    def test_weighs_the_batches_of_a_loader_by_their_size(self, model):
        data = zoo.examples(20)
        found = dataset_gradient(model, DataLoader(data, batch_size=16))  # 16 and 4
        close(found, dataset_gradient(model, data))

    def test_absolute_values_are_added_after_the_batch(self):
        model, data = tiny.mlp(), zoo.examples(20)
        each = by_hand.gradients(model, data)
        halves = [{name: sum(g[name] for g in each[k : k + 10]) for name in each[0]} for k in (0, 10)]
        found = dataset_gradient(model, data, batch_size=10, absolute=True)
        close(found, {name: halves[0][name].abs() + halves[1][name].abs() for name in halves[0]})

    def test_stops_after_so_many_batches_of_the_seeded_order(self):
        model, data = tiny.mlp(), zoo.examples(20)
        first = dataset_gradient(model, data, batch_size=5, batches=1)
        close(first, dataset_gradient(model, Examples(data.images[:5], data.labels[:5])))
        drawn = [dataset_gradient(model, data, batch_size=5, batches=1, seed=s)["3.bias"] for s in (1, 1, 2)]
        assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
        close(dataset_gradient(model, data, seed=1), dataset_gradient(model, data))

    def test_of_a_loss_that_draws(self):
        def noisy(model, batch, generator):
            labels = torch.randint(3, batch[1].shape, generator=generator)
            return F.cross_entropy(model(batch[0]), labels)

        model, data = tiny.conv_net(), zoo.examples(12)
        with zoo.untouched(model):
            drawn = [dataset_gradient(model, data, noisy, seed=seed)["5.bias"] for seed in (1, 1, 2)]
        assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])

    def test_ignores_autocast_and_no_grad(self):
        model, data = tiny.conv_net(), zoo.examples(12)
        expected = dataset_gradient(model, data)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            found = dataset_gradient(model, data)
        assert tiny.same(found, expected)

    def test_frozen_parameters_are_missing_and_unused_ones_zero(self):
        model = zoo.transformer()
        model.token.requires_grad_(False)
        found = dataset_gradient(model, zoo.examples(4))
        assert "token" not in found and not found["spare.weight"].any() and found["positions"].any()

    def test_refuses_losses_that_are_none(self):
        model, data = tiny.mlp(), zoo.examples(4)
        with pytest.raises(LossError, match=r"scalar.*found shape \[4\]"):
            dataset_gradient(model, data, lambda m, b, g: F.cross_entropy(m(b[0]), b[1], reduction="none"))
        with pytest.raises(LossError, match="requires_grad=False"):
            dataset_gradient(model, data, lambda m, b, g: b[0].sum())

    def test_refuses(self):
        model, data = tiny.mlp(), zoo.examples(4)
        with pytest.raises(InvalidInputError, match="`batches`"):
            dataset_gradient(model, data, batches=0)
        with torch.no_grad():
            model[1].weight[0, 0] = torch.nan
        with pytest.raises(NonFiniteError, match=r"'1\.weight'"):
            dataset_gradient(model, data)
        with pytest.raises(ModelError, match="None of 4 parameters"):
            dataset_gradient(model.requires_grad_(False), data)


class TestSquaredGradients:
    @pytest.mark.parametrize("chunk", [1, 3, 32])
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_what_a_slow_loop_finds(self, model, kind, chunk):
        data = zoo.examples(8)
        with zoo.untouched(model):
            found = squared_gradients(model, data, kind, chunk=chunk)
        close(found, by_hand.squares(model, data, kind))

    @pytest.mark.parametrize("kind", ["true", "sampled", "expected", "norm"])
    def test_does_not_depend_on_the_chunk(self, model, kind):
        data = zoo.examples(15)
        expected = squared_gradients(model, data, kind, chunk=1)
        for chunk in (2, 15, 64):
            close(squared_gradients(model, data, kind, chunk=chunk), expected)

    @pytest.mark.parametrize("kind", KINDS)
    def test_does_not_depend_on_the_order_or_the_loader(self, kind):
        model, data = tiny.conv_net(), zoo.examples(20)
        expected = squared_gradients(model, data, kind)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        close(squared_gradients(model, Examples(*data[order]), kind), expected)
        close(squared_gradients(model, DataLoader(data, batch_size=13), kind, chunk=8), expected)

    def test_drawn_labels_are_unbiased_and_follow_the_seed(self):
        model, data = tiny.mlp(), zoo.examples(6)
        drawn = [squared_gradients(model, data, "sampled", seed=seed) for seed in (*range(300), 0)]
        assert tiny.same(drawn[0], drawn[-1]) and not tiny.same(drawn[0], drawn[1])
        expected = by_hand.squares(model, data, "expected")
        mean = {name: torch.stack([one[name] for one in drawn[:-1]]).mean(0) for name in expected}
        error = (by_hand.flat(mean) - by_hand.flat(expected)).norm() / by_hand.flat(expected).norm()
        assert error < 0.1

    def test_labels_are_not_read_where_the_model_is_asked(self):
        model, data = tiny.mlp(), zoo.examples(6)
        other = data.relabelled((data.labels + 1) % 3)
        for kind, same in (("norm", True), ("expected", True), ("sampled", True), ("true", False)):
            assert tiny.same(squared_gradients(model, data, kind), squared_gradients(model, other, kind)) == same

    @pytest.mark.parametrize("kind", ["true", "norm"])
    def test_squares_of_batches(self, kind):
        model, data = tiny.conv_net(), zoo.examples(12)
        model.eval()
        expected: dict = {}
        for part in (data[list(range(6))], data[list(range(6, 12))]):
            z = model(part[0])
            value = F.cross_entropy(z, part[1]) if kind == "true" else z.square().sum(1).mean()
            for name, g in by_hand.gradient(model, value).items():
                expected[name] = expected.get(name, 0) + (g.abs() if kind == "norm" else g**2) / 2
        with zoo.untouched(model):
            found = squared_gradients(model, data, kind, per_batch=6)
        close(found, expected)
        close(squared_gradients(model, DataLoader(data, batch_size=6), kind, per_batch=99), expected)

    @pytest.mark.parametrize("kind", ["true", "norm"])
    def test_batches_of_one_are_examples(self, kind):
        model, data = tiny.mlp(), zoo.examples(9)
        close(squared_gradients(model, data, kind, per_batch=1), squared_gradients(model, data, kind))

    def test_frozen_parameters_are_missing_and_unused_ones_zero(self):
        model = zoo.transformer()
        model.token.requires_grad_(False)
        for chunk in (1, 4):
            found = squared_gradients(model, zoo.examples(4), chunk=chunk)
            assert "token" not in found and not found["spare.weight"].any() and found["positions"].any()

    def test_tied_parameters_are_counted_once(self):
        def tied():
            model = nn.Sequential(nn.Flatten(), nn.Linear(36, 36), nn.ReLU(), nn.Linear(36, 36), nn.Linear(36, 3))
            model[3].weight = model[1].weight
            return model

        model, data = zoo.seeded(tied), zoo.examples(5)
        close(squared_gradients(model, data), by_hand.squares(model, data, "true"))

    @pytest.mark.parametrize("chunk", [1, 4])
    def test_half_precision_does_not_lose_small_squares(self, chunk):
        model, data = tiny.mlp(), zoo.examples(4)
        data = Examples(1e-3 * data.images, data.labels)
        expected = squared_gradients(model, data)["1.weight"]
        half = Examples(data.images.half(), data.labels)
        found = squared_gradients(model.half(), half, chunk=chunk)["1.weight"]
        assert found.dtype == torch.float32 and expected.mean() < 6e-8  # below the range of half precision
        assert_close(found, expected, rtol=0.05, atol=0.01 * float(expected.mean()))

    def test_a_model_that_vmap_cannot_take(self):
        class Stubborn(nn.Sequential):
            def forward(self, x):
                return super().forward(x if x.sum().item() > 0 else -x)

        model, data = zoo.seeded(lambda: Stubborn(nn.Flatten(), nn.Linear(36, 3))), zoo.examples(5)
        with zoo.untouched(model), pytest.raises(ModelError, match=r"Stubborn.*`torch\.func\.vmap`.*`chunk=1`"):
            squared_gradients(model, data)
        close(squared_gradients(model, data, chunk=1), by_hand.squares(model, data, "true"))

    def test_of_a_model_with_an_output_object(self):
        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = tiny.mlp()

            def forward(self, x):
                return type("Output", (), {"logits": self.net(x)})()

        data = zoo.examples(5)
        expected = {f"net.{name}": value for name, value in squared_gradients(tiny.mlp(), data).items()}
        for chunk in (1, 4):
            close(squared_gradients(Wrapped(), data, chunk=chunk), expected)

    @pytest.mark.parametrize("chunk", [1, 4])
    def test_refuses_models_without_logits(self, chunk):
        model = nn.Sequential(nn.Linear(6, 3))  # returns [1, 1, 6, 3]
        with pytest.raises(ModelError, match=r"logits of shape \[1, classes\].*\[1, 1, 6, 3\]"):
            squared_gradients(model, zoo.examples(4), chunk=chunk)

    def test_refuses_settings(self):
        model, data = tiny.mlp(), zoo.examples(4)
        with pytest.raises(InvalidInputError, match="`labels` must be one of true, expected, sampled, norm"):
            squared_gradients(model, data, "best")
        for kind in ("expected", "sampled"):
            with pytest.raises(InvalidInputError, match="`per_batch` goes with"):
                squared_gradients(model, data, kind, per_batch=2)
        for settings in ({"chunk": 0}, {"per_batch": 0}):
            with pytest.raises(InvalidInputError, match="must be a whole number of at least 1"):
                squared_gradients(model, data, **settings)

    def test_refuses_numbers_that_are_none(self):
        model = tiny.mlp()
        with torch.no_grad():
            model[3].weight[0, 0] = torch.inf
        for settings in ({}, {"chunk": 1}, {"per_batch": 2}):
            with pytest.raises(NonFiniteError, match="The squared gradient of"):
                squared_gradients(model, zoo.examples(4), **settings)


def test_an_importance_over_a_part_cannot_exceed_its_share_of_the_whole():
    # Acceptance test 4: where the whole holds the part, I_D >= n_f / n I_f, whatever the model.
    model, data = zoo.residual(), zoo.examples(20)
    part = Examples(data.images[:4], data.labels[:4])
    whole, forget = squared_gradients(model, data), squared_gradients(model, part)
    for name, value in forget.items():
        assert (whole[name] * (1 + 1e-4) >= value * 4 / 20).all()


@pytest.mark.parametrize("chunk", [1, 8])
@pytest.mark.parametrize("kind", ["true", "sampled", "norm"])
def test_fused_attention_is_taken_example_by_example(kind, chunk):
    vit = vision.library("timm.models.vision_transformer").VisionTransformer
    model = zoo.seeded(
        lambda: vit(img_size=6, patch_size=2, in_chans=1, embed_dim=16, depth=1, num_heads=2, num_classes=3)
    )
    data = zoo.examples(5)
    found = squared_gradients(model, data, kind, chunk=chunk)
    if kind != "sampled":
        close(found, by_hand.squares(model, data, kind))
