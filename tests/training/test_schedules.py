import math

import pytest
import torch

from amnesty.training.schedules import SCHEDULES, scheduler

FACTORS = {
    "constant": lambda x: 1.0,
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_follows_the_formula(schedule):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.2)
    rates, found = scheduler(optimizer, schedule, steps=5), []
    for _ in range(5):
        found.append(rates.get_last_lr()[0])
        optimizer.step()
        rates.step()
    assert found == pytest.approx([0.2 * FACTORS[schedule](k / 5) for k in range(5)])
