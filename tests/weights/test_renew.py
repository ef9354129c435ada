import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from amnesty.errors import InvalidInputError, ModelError, ShapeError, UnknownNameError
from amnesty.weights import add_noise, reinitialised, renew, renew_modules
from tests import tiny
from tests.weights import zoo


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


KERNELS = [
    lambda: nn.Linear(40, 30),
    lambda: nn.Conv1d(8, 30, 5),
    lambda: nn.Conv2d(8, 30, 3, groups=2),
    lambda: nn.ConvTranspose2d(20, 12, 3),
]


class TestRenew:
    @pytest.mark.parametrize("make", KERNELS)
    def test_kernels_are_uniform_like_new_ones(self, make):
        layer = zoo.seeded(make)
        renew(layer, "weight", generator=generator())
        fan_in, _ = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        bound = 1 / math.sqrt(fan_in)
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        new = zoo.seeded(make)
        assert new.weight.abs().max() <= bound and new.weight.abs().max() >= 0.95 * layer.weight.abs().max()

    @pytest.mark.parametrize("make", KERNELS)
    def test_kernels_are_normal_by_fan_out(self, make):
        layer = zoo.seeded(make)
        renew(layer, "weight", how="normal_fan_out", generator=generator())
        _, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
        assert layer.weight.abs().max() > 2 * math.sqrt(2 / fan_out)

    @pytest.mark.parametrize("make", KERNELS)
    def test_biases_are_zero(self, make):
        layer = zoo.seeded(make)
        weight = layer.weight.clone()
        renew(layer, "bias", generator=generator())
        assert not layer.bias.any() and torch.equal(layer.weight, weight)

    def test_norms(self):
        model = zoo.residual()
        with torch.no_grad():
            model.bn1.weight.fill_(3.0)
            model.bn1.bias.fill_(3.0)
        other = model.layer1[0].bn.running_mean.clone()
        renew(model, "bn1.bias", torch.tensor([True, False, True, True]), generator=generator())
        assert model.bn1.bias.tolist() == [0, 3, 0, 0] and model.bn1.running_mean.any()
        renew(model, "bn1.weight", generator=generator())
        assert model.bn1.weight.tolist() == [1] * 4 and model.bn1.bias.tolist() == [0, 3, 0, 0]
        assert not model.bn1.running_mean.any() and model.bn1.num_batches_tracked == 0
        assert torch.equal(model.layer1[0].bn.running_mean, other)

    def test_layer_norm_has_no_statistics(self):
        model = nn.LayerNorm(3)
        renew(model, "weight", generator=generator())
        assert model.weight.tolist() == [1] * 3

    def test_other_parameters_by_their_shape(self):
        model = tiny.attention()
        renew(model, "layer.self_attn.in_proj_weight", generator=generator())
        weight = model.layer.self_attn.in_proj_weight
        assert weight.abs().max() <= 1 / math.sqrt(12) and weight.std() > 0.5 / math.sqrt(12)
        with torch.no_grad():
            model.layer.self_attn.in_proj_bias.fill_(1.0)
        renew(model, "layer.self_attn.in_proj_bias", generator=generator())
        assert not model.layer.self_attn.in_proj_bias.any()
        wide = nn.ParameterDict({"token": torch.ones(1, 1, 500)})
        renew(wide, "token", generator=generator())
        assert wide["token"].std().item() == pytest.approx(0.02, rel=0.1)

    def test_only_where_the_mask_says(self):
        first, second = tiny.mlp(), tiny.mlp()
        old = first[1].weight.clone()
        mask = torch.rand(old.shape, generator=generator(1)) > 0.5
        renew(first, "1.weight", mask, generator=generator())
        renew(second, "1.weight", generator=generator())
        assert torch.equal(first[1].weight, torch.where(mask, second[1].weight, old))

    def test_follows_the_generator_alone(self):
        drawn = []
        for seed in (0, 0, 1):
            model = tiny.conv_net()
            with zoo.untouched(model, weights=False):
                renew(model, "0.weight", generator=generator(seed))
            drawn.append(model[0].weight)
        assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])

    def test_leaves_frozen_parameters_alone(self):
        model = zoo.residual().requires_grad_(False)
        before = tiny.weights(model)
        for name, _ in model.named_parameters():
            renew(model, name, generator=generator())
        assert tiny.same(tiny.weights(model), before)

    def test_keeps_type_and_identity(self):
        model = tiny.mlp().to(torch.float64)
        weight = model[1].weight
        renew(model, "1.weight", generator=generator())
        assert model[1].weight is weight and weight.dtype == torch.float64 and weight.requires_grad

    def test_refuses(self):
        model = tiny.mlp()
        with pytest.raises(UnknownNameError, match="Did you mean '1.weight'"):
            renew(model, "1.weigth", generator=generator())
        for mask in (torch.ones(3, dtype=torch.bool), torch.ones(16, 36)):
            with pytest.raises(ShapeError, match=r"'1\.weight' must be a bool tensor of shape \[16, 36\]"):
                renew(model, "1.weight", mask, generator=generator())
        with pytest.raises(InvalidInputError, match="`how` must be one of uniform, normal_fan_out"):
            renew(model, "1.weight", how="zeros", generator=generator())


class TestRenewModules:
    NAMES = ("conv1.weight", "bn1.weight", "bn1.bias", "fc.weight", "fc.bias")

    def test_draws_as_the_modules_do(self):
        model = zoo.residual()
        before = tiny.weights(model)
        with torch.no_grad():
            model.fc.bias.fill_(9.0)
        renew_modules(model, self.NAMES, seed=0)
        bound = 1 / math.sqrt(8)
        assert model.fc.bias.abs().min() > 0 and model.fc.bias.abs().max() <= bound  # a linear layer draws its bias
        for name, value in model.state_dict().items():
            renewed = name.startswith(("conv1", "fc", "bn1.running", "bn1.num"))
            assert torch.equal(value, before[name]) != renewed, name
        assert not model.bn1.running_mean.any() and model.bn1.num_batches_tracked == 0

    def test_changes_nothing_else(self):
        model = zoo.residual()
        kept = {name: p.clone() for name, p in model.named_parameters() if name not in self.NAMES}
        modes, state = [m.training for m in model.modules()], torch.get_rng_state()
        own = dict(model.named_parameters())
        renew_modules(model, self.NAMES, seed=0)
        assert all(torch.equal(own[name], value) for name, value in kept.items())
        assert modes == [m.training for m in model.modules()] and torch.equal(torch.get_rng_state(), state)
        assert all(p is own[name] for name, p in model.named_parameters())

    def test_only_the_parameters_named(self):
        model = zoo.residual()
        before = tiny.weights(model)
        renew_modules(model, ["fc.weight", "bn1.bias"], seed=0)
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"fc.weight"}  # the new bias of `bn1` is the old one; its statistics stay

    def test_no_frozen_one(self):
        model = zoo.residual()
        model.fc.bias.requires_grad_(False)
        model.bn1.bias.requires_grad_(False)
        before = tiny.weights(model)
        renew_modules(model, self.NAMES, seed=0)
        after = tiny.weights(model)
        assert not torch.equal(before["fc.weight"], after["fc.weight"])
        for name in ("fc.bias", "bn1.bias", "bn1.running_mean", "bn1.num_batches_tracked"):
            assert torch.equal(before[name], after[name])

    def test_what_a_module_draws_does_not_depend_on_the_others(self):
        alone, together, other = zoo.residual(), zoo.residual(), zoo.residual()
        renew_modules(alone, ["fc.weight"], seed=3)
        renew_modules(together, self.NAMES, seed=3)
        renew_modules(other, self.NAMES, seed=4)
        assert torch.equal(alone.fc.weight, together.fc.weight)
        assert not torch.equal(other.fc.weight, together.fc.weight)

    def test_modules_of_one_shape_draw_different_numbers(self):
        model = zoo.residual()
        names = ["layer1.0.conv.weight", "layer1.1.conv.weight"]
        renew_modules(model, names, seed=0)
        assert not torch.equal(*(model.get_parameter(name) for name in names))

    def test_modules_that_cannot_start_again_by_themselves(self):
        model = tiny.attention()
        names = ["token", "layer.self_attn.in_proj_weight", "layer.self_attn.in_proj_bias"]
        before = tiny.weights(model)
        renew_modules(model, names, seed=0)
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == set(names[:2]) and not model.layer.self_attn.in_proj_bias.any()

    def test_a_module_that_resets_its_children_too(self):
        class Greedy(nn.Module):
            def __init__(self):
                super().__init__()
                self.token, self.child = nn.Parameter(torch.ones(3)), nn.Linear(3, 3)

            def reset_parameters(self):
                nn.init.normal_(self.token)
                self.child.reset_parameters()

        model = Greedy()
        child = model.child.weight.clone()
        renew_modules(model, ["token"], seed=0)
        assert not torch.equal(model.token, torch.ones(3)) and torch.equal(model.child.weight, child)

    def test_all_is_what_a_new_model_has(self):
        # Layer by layer of the same kind of draw, though not the same numbers, as `reinitialised`.
        model = zoo.residual()
        renew_modules(model, [name for name, _ in model.named_parameters()], seed=0)
        new = reinitialised(zoo.residual(), seed=0)
        for name, value in new.state_dict().items():
            assert_close(
                model.state_dict()[name].double().abs().mean(), value.double().abs().mean(), rtol=0.5, atol=0
            )

    def test_refuses_unknown_names(self):
        with pytest.raises(UnknownNameError, match=r"fc\.weight"):
            renew_modules(zoo.residual(), ["fc.weigth"], seed=0)


class TestAddNoise:
    def test_adds_of_the_deviation_asked_for(self):
        model = tiny.mlp()
        before = tiny.weights(model)
        with zoo.untouched(model, weights=False):
            add_noise(model, ["1.weight"], 0.6, generator())
        noise = model[1].weight - before["1.weight"]
        assert noise.std().item() == pytest.approx(0.6, rel=0.1) and abs(noise.mean().item()) < 0.1
        assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n != "1.weight")

    def test_none_at_zero_and_none_on_frozen_ones(self):
        model = tiny.mlp()
        before = tiny.weights(model)
        add_noise(model, before, 0.0, generator())
        add_noise(model.requires_grad_(False), before, 1.0, generator())
        assert tiny.same(tiny.weights(model), before)

    def test_follows_the_generator_not_the_order_of_the_names(self):
        first, second = tiny.mlp(), tiny.mlp()
        add_noise(first, ["1.weight", "3.bias"], 1.0, generator())
        add_noise(second, ["3.bias", "1.weight"], 1.0, generator())
        assert tiny.same(tiny.weights(first), tiny.weights(second))

    def test_refuses(self):
        for sigma in (-0.1, math.nan, math.inf):
            with pytest.raises(InvalidInputError, match="`sigma`"):
                add_noise(tiny.mlp(), ["1.weight"], sigma, generator())
        with pytest.raises(UnknownNameError):
            add_noise(tiny.mlp(), ["nothing"], 1.0, generator())


def test_a_fresh_copy_shares_nothing_with_the_trained_one():
    trained = tiny.conv_net()
    trained(torch.randn(8, 1, 6, 6))
    fresh = reinitialised(trained, seed=0)
    for name, value in fresh.state_dict().items():
        if name == "1.num_batches_tracked":
            assert value == 0
        elif "1." not in name:  # batch norm starts from the same constants
            assert not torch.equal(value, trained.state_dict()[name])


def test_what_cannot_be_initialised_is_named():
    with pytest.raises(ModelError, match="Attention.*reset_parameters"):
        reinitialised(tiny.attention(), seed=0)


def test_frozen_parameters_are_neither_kept_nor_made_new():
    model = tiny.conv_net()
    model[5].bias.requires_grad_(False)
    with pytest.raises(ModelError, match=r"1 parameters are frozen, such as '5\.bias'.*`fresh=`"):
        reinitialised(model, seed=0)


class Normalised(nn.Module):
    """Divides by a constant that no training finds again."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("deviation", torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / self.deviation


def test_constants_are_kept_and_statistics_are_new():
    model = nn.Sequential(Normalised(), *tiny.conv_net())
    model[0].deviation.fill_(7.0)
    model(torch.randn(8, 1, 6, 6))
    fresh = reinitialised(model, seed=0)
    assert fresh[0].deviation == 7 and fresh[2].num_batches_tracked == 0
    assert torch.equal(fresh[2].running_mean, torch.zeros(8)) and model[2].num_batches_tracked == 1


def test_new_weights_follow_the_seed_and_leave_the_callers_generator():
    state = torch.get_rng_state()
    first, second, other = (tiny.weights(reinitialised(tiny.conv_net(), seed=seed)) for seed in (0, 0, 1))
    assert tiny.same(first, second) and not tiny.same(first, other)
    assert torch.equal(torch.get_rng_state(), state)
