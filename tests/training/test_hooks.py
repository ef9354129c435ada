import pytest
import torch
from torch import nn

from amnesty.training import Loop, pull_back, shrink
from tests import tiny
from tests.methods.by_hand import by_hand, entropy, slope


def model_with_gradients():
    model = tiny.mlp()
    draw = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=draw)
    return model


def gradients(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


class TestShrink:
    def test_adds_the_gradient_of_the_sum_of_absolute_values(self):
        model = model_with_gradients()
        hook, before = shrink(model, lambda epoch: 0.3 / epoch), gradients(model)
        hook.start_epoch(2)
        hook.before_step()
        penalty = 0.15 * sum(p.abs().sum() for p in model.parameters())
        slopes = torch.autograd.grad(penalty, list(model.parameters()))
        for p, g, extra in zip(model.parameters(), before, slopes, strict=True):
            torch.testing.assert_close(p.grad, g + extra)

    def test_follows_the_epoch(self):
        model = model_with_gradients()
        asked = []
        hook = shrink(model, lambda epoch: asked.append(epoch) or 1.0 - epoch)
        hook.start_epoch(1)
        before = gradients(model)
        hook.before_step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))
        hook.start_epoch(2)
        hook.before_step()
        hook.before_step()
        assert asked == [1, 2]
        for p, g in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(p.grad, g - 2 * p.detach().sign())

    def test_leaves_frozen_parameters_and_pulls_those_without_a_gradient(self):
        model = model_with_gradients()
        model[1].requires_grad_(False)
        model[1].weight.grad = model[3].bias.grad = None
        hook = shrink(model, lambda epoch: 1.0)
        hook.start_epoch(1)
        hook.before_step()
        assert model[1].weight.grad is None
        assert torch.equal(model[3].bias.grad, model[3].bias.detach().sign())

    def test_in_a_run_is_the_penalty_of_the_formula(self):
        task, found, twin = tiny.task(tiny.mlp()), tiny.mlp(), tiny.mlp()
        strengths = {1: 0.02, 2: 0.01}
        run(found, task, hooks=[shrink(found, strengths.__getitem__)], epochs=2)
        steps = []

        def direction(model, batches):
            steps.append(1)
            penalty = strengths[1 + len(steps) // 5] * sum(p.abs().sum() for p in model.parameters())
            return slope(model, entropy(model, batches["retain"]) + penalty)

        settings = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "epochs": 2}
        expected = by_hand(task, direction, {"retain": 30}, pairing="cycle_forget", model=twin, **settings)
        assert len(steps) == 8
        for p, q in zip(found.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(p, q)


class TestPullBack:
    def test_adds_the_gradient_of_the_distance_from_now(self):
        model = model_with_gradients()
        start = [p.detach().clone() for p in model.parameters()]
        hook, before = pull_back(model, 0.7), gradients(model)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
        hook.before_step()
        penalty = 0.35 * sum((p - q).square().sum() for p, q in zip(model.parameters(), start, strict=True))
        slopes = torch.autograd.grad(penalty, list(model.parameters()))
        for p, g, extra in zip(model.parameters(), before, slopes, strict=True):
            torch.testing.assert_close(p.grad, g + extra)

    def test_does_nothing_at_the_start_and_leaves_frozen_parameters(self):
        model = model_with_gradients()
        model[1].requires_grad_(False)
        before = gradients(model)
        pull_back(model, 10.0).before_step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def run(model, task, **more):
    Loop(model, task.parts).run(
        {"retain": task.preserved()},
        optimizer=lambda p, steps: torch.optim.SGD(p, lr=0.1),
        **{"epochs": 1, "batch_size": 30} | more,
    )


def test_strong_pulls_hold_the_weights():
    task, moved = tiny.task(tiny.mlp()), []
    for strength in (0.0, 5.0):
        model = tiny.mlp()
        before = tiny.weights(model)
        run(model, task, hooks=[pull_back(model, strength)], epochs=4)
        moved.append(sum((v - before[n]).square().sum() for n, v in model.state_dict().items()).sqrt().item())
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize("make", [lambda m: shrink(m, lambda epoch: 50.0), lambda m: pull_back(m, 50.0)])
def test_what_hooks_add_where_nothing_may_move_is_not_clipped_for(make):
    """Spec 2.2: a mask applies to every term. Else the clipped update would be shorter where it may move."""
    task, updates = tiny.task(nn.Sequential(nn.Flatten(), nn.Linear(36, 3))), []
    for hooked in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        masks = {"1.weight": torch.zeros(3, 36, dtype=torch.bool)}
        with torch.no_grad():
            model[1].bias.zero_()
        hooks = [make(model)] if hooked else []
        with torch.no_grad():
            model[1].weight.add_(0.5)  # far from where `pull_back` began
        before = model[1].bias.detach().clone()
        run(model, task, masks=masks, hooks=hooks, max_norm=0.01, batch_size=200)
        updates.append(model[1].bias.detach() - before)
    torch.testing.assert_close(updates[1].norm().item(), 0.1 * 0.01, rtol=1e-3, atol=0)
    torch.testing.assert_close(*updates)
