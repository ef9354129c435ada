import pytest
import torch
from torch import nn

from amnesty.bargaining import Nash
from amnesty.errors import ShapeError, UnknownNameError
from amnesty.training import FrozenCoordinates, Loop
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


def test_masking_the_gradient_alone_would_not_freeze():
    p = nn.Parameter(torch.ones(2))
    optimizer = OPTIMIZERS["sgd"]([p])
    p.grad = torch.zeros(2)
    optimizer.step()
    assert (p != 1).all()


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
