import math
from itertools import pairwise

import pytest
import torch

from amnesty.training.schedules import SCHEDULES, by_epoch, milestones, scheduler, up_and_down

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


def test_each_pass_has_its_factor_whatever_its_length():
    schedule = by_epoch([0.1, 0.2, 0.3])
    assert [schedule(k, 6) for k in range(7)] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3]
    assert [schedule(k, 3) for k in range(3)] == [0.1, 0.2, 0.3]
    assert [by_epoch([1.0])(k, 7) for k in range(7)] == [1.0] * 7


@pytest.mark.parametrize("epochs", range(1, 40))
def test_milestones_are_passed_when_that_much_of_the_run_is_over(epochs):
    factors = milestones(epochs)
    assert len(factors) == epochs and factors[0] == 1.0
    for epoch, factor in enumerate(factors):
        assert factor == pytest.approx(0.1 ** sum(100 * epoch >= p * epochs for p in (50, 80, 90)))


@pytest.mark.parametrize("epochs", range(1, 12))
def test_up_and_down_rises_by_equal_parts_to_1_and_falls_to_0_after_the_end(epochs):
    factors = [0.0, *up_and_down(epochs), 0.0]
    peak = (epochs + 1) // 2
    assert factors[peak] == max(factors) == 1.0
    rises = [b - a for a, b in pairwise(factors)]
    falls = epochs + 1 - peak
    assert rises == pytest.approx([1 / peak] * peak + [-1 / falls] * falls)
