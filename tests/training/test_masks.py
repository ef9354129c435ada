import pytest
import torch
from torch import nn

from amnesty.bargaining import Nash
from amnesty.errors import ShapeError, UnknownNameError
from amnesty.training import FrozenCoordinates, Loop
from amnesty.training.masks import both
from tests import tiny

OPTIMIZERS = {
    "sgd": lambda p, steps=0: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p, steps=0: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adamw": lambda p, steps=0: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}


def half(model: nn.Module) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {name: torch.rand(p.shape, generator=random) > 0.5 for name, p in model.named_parameters()}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_masked_coordinates_stay_to_the_bit_and_the_others_move(make):
    task, model = tiny.task(), tiny.conv_net()
    masks, before = half(model), tiny.weights(model)
    Loop(model, task.parts).run(
        {"forget": task.relabelled(), "retain": task.preserved()},
        optimizer=make,
        epochs=8,
        rule=Nash(),
        batch_size=16,
        masks=masks,
    )
    for name, p in model.named_parameters():
        assert torch.equal(p[~masks[name]], before[name][~masks[name]])
        assert (p[masks[name]] != before[name][masks[name]]).all()


class TestAHundredSteps:
    """Acceptance test 1: weight decay and momentum act inside the step of the optimiser."""

    def test_leave_masked_weights_to_the_bit(self):
        task, model = tiny.task(), tiny.conv_net()
        masks, before = half(model), tiny.weights(model)
        loop = Loop(model, task.parts)
        loop.run(
            {"forget": task.relabelled(), "retain": task.preserved()},
            optimizer=OPTIMIZERS["sgd"],
            epochs=1,
            at_least=100,
            batch_size=54,
            masks=masks,
        )
        assert len(loop.history) == 100
        assert all(torch.equal(p[~masks[n]], before[n][~masks[n]]) for n, p in model.named_parameters())

    def test_with_masked_gradients_alone_do_not(self):
        task, model = tiny.task(), tiny.mlp()
        masks, before = half(model), tiny.weights(model)
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        images, labels = task.parts["retain"][list(range(108))]
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            for name, p in model.named_parameters():
                p.grad.mul_(masks[name])
            optimizer.step()
        assert all((p[~masks[n]] != before[n][~masks[n]]).all() for n, p in model.named_parameters())


class TestFrozenCoordinates:
    MASK = torch.tensor([[True, False, True]])

    def frozen(self, **more):
        model = nn.Linear(3, 1, bias=False)
        nn.init.constant_(model.weight, 2.0)
        return model, FrozenCoordinates(model, {"weight": self.MASK}, **more)

    def test_put_back_what_they_were(self):
        model, frozen = self.frozen()
        with torch.no_grad():
            model.weight.add_(1.0)
        frozen.restore()
        assert model.weight.tolist() == [[3, 2, 3]]
        model.weight.data[0, 1] = torch.nan
        frozen.restore()
        assert model.weight.tolist() == [[3, 2, 3]]

    def test_remember_their_values(self):
        model, frozen = self.frozen()
        assert frozen.values["weight"].tolist() == [[2, 2, 2]]
        with torch.no_grad():
            model.weight.zero_()
        assert frozen.values["weight"].tolist() == [[2, 2, 2]]

    def test_may_be_held_at_values_given(self):
        model, frozen = self.frozen(values={"weight": torch.full((1, 3), 7.0)})
        frozen.restore()
        assert model.weight.tolist() == [[2, 7, 2]]

    def test_mask_gradients_that_others_added_to(self):
        model, frozen = self.frozen()
        frozen.before_step()
        assert model.weight.grad is None
        model.weight.grad = torch.ones(1, 3)
        frozen.before_step()
        assert model.weight.grad.tolist() == [[1, 0, 1]]


def test_both_masks_let_move_what_each_does():
    first = {"a": torch.tensor([True, True, False]), "b": torch.tensor([False])}
    second = {"a": torch.tensor([True, False, True]), "c": torch.tensor([True])}
    found = both(first, second)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "a": [True, False, False],
        "b": [False],
        "c": [True],
    }
    assert first["a"].tolist() == [True, True, False] and both({}, {}) == {}


def test_state_of_the_optimizer_is_masked_too():
    model = nn.Linear(3, 1, bias=False)
    mask = torch.tensor([[True, False, True]])
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    frozen = FrozenCoordinates(model, {"weight": mask})
    model.weight.grad = torch.ones(1, 3)
    optimizer.step()
    frozen.after_step(optimizer)
    state = optimizer.state[model.weight]
    assert state["exp_avg"][0, 1] == 0 and state["exp_avg_sq"][0, 1] == 0
    assert state["exp_avg"][0, 0] != 0


def test_masks_that_do_not_fit_are_refused():
    model = nn.Linear(3, 1)
    with pytest.raises(UnknownNameError, match="Did you mean 'weight'"):
        FrozenCoordinates(model, {"weigth": torch.ones(1, 3, dtype=torch.bool)})
    for mask in (torch.ones(3, dtype=torch.bool), torch.ones(1, 3)):
        with pytest.raises(ShapeError, match="bool tensor of shape"):
            FrozenCoordinates(model, {"weight": mask})
