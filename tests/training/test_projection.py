import copy
import itertools

import pytest
import torch
from torch.nn import functional as F

from amnesty.data import Batches
from amnesty.errors import NonFiniteError
from amnesty.tasks import Mean
from amnesty.tasks.forgetting import ascended
from amnesty.training.projection import projected
from tests import tiny

LOSS = Mean(ascended())


def memories_by_hand(model, data, names, count, batch_size, epoch, seed=0) -> torch.Tensor:
    """Each from a model of its own, so that nothing can add up; shape [count, parameters]."""
    rows = []
    for _, batch in zip(range(count), Batches(data, batch_size, seed, "memories").iterate(epoch), strict=False):
        twin = copy.deepcopy(model).eval()
        (-F.cross_entropy(twin(batch[0]), batch[1])).backward()
        rows.append(torch.cat([twin.get_parameter(name).grad.flatten() for name in names]).double())
    return torch.stack(rows)


def dual_by_hand(m: torch.Tensor, g: torch.Tensor, margin: float) -> torch.Tensor:
    """Try which entries are at the margin, and keep the only choice that fulfils the conditions of the optimum."""
    p, q = m @ m.T + 1e-3 * torch.eye(len(m), dtype=torch.float64), m @ g
    for free in itertools.product([False, True], repeat=len(m)):
        f, v = torch.tensor(free), torch.full_like(q, margin)
        if f.any():
            v[f] = torch.linalg.solve(p[f][:, f], -(q[f] + margin * p[f][:, ~f].sum(1)))
        slope = p @ v + q
        if (v >= margin - 1e-9).all() and (slope[~f] >= -1e-9).all():
            return v
    raise AssertionError("no optimum")


def give(model, names, update: torch.Tensor) -> None:
    parameters = [model.get_parameter(name) for name in names]
    for p, g in zip(parameters, update.split([p.numel() for p in parameters]), strict=True):
        p.grad = g.view(p.shape).float()


def taken(model, names) -> torch.Tensor:
    return torch.cat([model.get_parameter(name).grad.flatten() for name in names]).double()


@pytest.mark.parametrize("name", ["conv", "mlp"])
def test_updates_no_longer_work_against_any_memory(name):
    """Acceptance test 8: memories are independent, and the result fulfils the conditions of the optimum."""
    model, data = tiny.MODELS[name](), tiny.blobs(30)
    names = [n for n, _ in model.named_parameters()][-2:]
    hook = projected(model, data, LOSS, names, memories=4, margin=0.5, batch_size=6)
    others = [p for n, p in model.named_parameters() if n not in names]
    for p in others:
        p.grad = torch.ones_like(p)
    for epoch in (1, 2):
        before = tiny.weights(model)
        hook.start_epoch(epoch)
        assert tiny.same(before, tiny.weights(model)) and model.training
        m = memories_by_hand(model, data, names, 4, 6, epoch)
        g = -3 * m[0] - m[1]
        give(model, names, g)
        hook.before_step()
        v = dual_by_hand(m, g, 0.5)
        torch.testing.assert_close(taken(model, names), g + m.T @ v, rtol=1e-4, atol=1e-4)
        assert (m @ taken(model, names) >= -1e-3 * v - 1e-4 * m.norm() ** 2).all() and (m @ g).min() < 0
    assert all((p.grad == 1).all() for p in others)


def test_updates_that_work_against_none_stay():
    model, data = tiny.mlp(), tiny.blobs(30)
    names = ["3.weight"]
    hook = projected(model, data, LOSS, names, memories=3, batch_size=30)
    hook.start_epoch(1)
    m = memories_by_hand(model, data, names, 3, 30, 1)
    assert len(m) == 1  # no more than there are batches
    give(model, names, m[0])
    hook.before_step()
    assert torch.equal(taken(model, names), m[0].float().double())


def test_masks_hold():
    model, data = tiny.mlp(), tiny.blobs(30)
    mask = torch.zeros(3, 16, dtype=torch.bool)
    mask[1] = True
    hook = projected(model, data, LOSS, ["3.weight", "3.bias"], masks={"3.weight": mask})
    hook.start_epoch(1)
    model[3].weight.grad = torch.zeros(3, 16)
    model[3].bias.grad = -memories_by_hand(model, data, ["3.bias"], 1, 256, 1)[0].float()
    hook.before_step()
    assert (model[3].weight.grad != 0).any() and (model[3].weight.grad[~mask] == 0).all()


def test_a_model_that_is_not_finite_is_found():
    model = tiny.mlp()
    with torch.no_grad():
        model[3].weight[0, 0] = torch.nan
    hook = projected(model, tiny.blobs(30), LOSS, ["3.weight"])
    with pytest.raises(NonFiniteError, match="not finite before epoch 1"):
        hook.start_epoch(1)
