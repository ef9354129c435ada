import pytest
import torch

from amnesty.training.phases import lasting
from amnesty.training.schedules import cosine_to, dropping, scheduler, stretched
from tests import tiny


def test_an_optimiser_that_lasts_keeps_its_momentum_and_its_rate():
    model = tiny.mlp()
    make = lasting(lambda parameters, steps: torch.optim.SGD(parameters, lr=0.5, momentum=0.9))
    rates = []
    for part in range(2):
        optimizer = make(model.parameters(), 3)
        rate = scheduler(optimizer, stretched("linear", part, 2), 3)
        for _ in range(3):
            rates.append(optimizer.param_groups[0]["lr"])
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step()
            rate.step()
    assert rates == pytest.approx([0.5 * (1 - k / 6) for k in range(6)])
    state = next(iter(optimizer.state.values()))["momentum_buffer"]
    assert state.flatten()[0].item() == pytest.approx(sum(0.9**k for k in range(6)))


def test_schedules():
    assert [cosine_to(0.2)(k, 4) for k in (0, 2, 4)] == pytest.approx([1.0, 0.6, 0.2])
    assert [stretched(cosine_to(0.2), 1, 2)(k, 2) for k in (0, 2)] == pytest.approx([0.6, 0.2])
    assert [dropping([1, 3], "linear")(k, 4) for k in range(4)] == pytest.approx([1.0, 0.075, 0.05, 0.0025])
