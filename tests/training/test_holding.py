import pytest
import torch

from amnesty.errors import InvalidInputError
from amnesty.training.holding import hold_the_least
from tests import tiny


def by_hand(start: list[float], now: list[float], k: int) -> list[float]:
    deltas = [b - a for a, b in zip(start, now, strict=True)]
    tau = sorted(map(abs, deltas))[k - 1] if k else 0.0
    return [a + (1 if d > 0 else -1) * max(abs(d) - tau, 0.0) for a, d in zip(start, deltas, strict=True)]


def flat(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).double()


def move(model, random) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=random))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_it_is_the_soft_threshold_of_all_changes_by_the_kth_smallest(share):
    model, random = tiny.mlp(), torch.Generator().manual_seed(0)
    start = flat(model)
    hook = hold_the_least(model, share, 4)
    for step in range(1, 5):
        move(model, random)
        now = flat(model)
        hook.after_step()
        k = int(share * (1 - step / 4) * len(start))
        expected = torch.tensor(by_hand(start.tolist(), now.tolist(), k), dtype=torch.float64)
        torch.testing.assert_close(flat(model), expected, rtol=1e-5, atol=1e-6)
        assert (flat(model) == start).sum() >= k  # to the bit
        if step == 4:
            assert torch.equal(flat(model), now)  # nothing is held any more


def test_only_weights_that_may_move_are_counted():
    model, random = tiny.mlp(), torch.Generator().manual_seed(0)
    model[3].requires_grad_(False)
    mask = torch.zeros(16, 36, dtype=torch.bool)
    mask[0] = True
    start = model[1].weight.detach()[0].clone()
    hook = hold_the_least(model, 0.5, 2, {"1.weight": mask})
    move(model, random)
    bias = model[1].bias.detach().clone()
    frozen = model[3].weight.detach().clone()
    hook.after_step()
    held = (model[1].weight[0] == start).sum() + (tiny.mlp()[1].bias == model[1].bias).sum()
    assert held == int(0.25 * (36 + 16))
    assert not torch.equal(bias, model[1].bias) and torch.equal(frozen, model[3].weight)


@pytest.mark.parametrize(("share", "steps"), [(-0.1, 3), (1.1, 3), (float("nan"), 3), (0.5, 0)])
def test_settings_out_of_range_are_refused(share, steps):
    with pytest.raises(InvalidInputError, match="`share` must be in"):
        hold_the_least(tiny.mlp(), share, steps)
