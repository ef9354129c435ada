import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.data import Examples
from amnesty.errors import InvalidInputError, ModelError, NonFiniteError, SplitError
from amnesty.evaluation.relearning import relearn
from amnesty.tasks.labelled import predict
from tests import tiny


def wrong(count=40, seed=3):
    """Blobs under random labels: nothing but remembering helps."""
    data = tiny.blobs(count, seed)
    return Examples(data.images, torch.randint(3, (count,), generator=torch.Generator().manual_seed(seed)))


class TestRelearn:
    def test_counts_the_steps_until_the_goal_and_no_further(self):
        found = relearn(tiny.mlp(), tiny.blobs(), goal=0.5, lr=0.05)
        assert not found.censored
        assert len(found.losses) == len(found.accuracies) == found.steps + 1 > 3
        assert found.losses[-1] <= 0.5 < min(found.losses[:-1])

    def test_accuracy_may_be_the_goal(self):
        found = relearn(tiny.mlp(), tiny.blobs(), goal=0.9, measure="accuracy", lr=0.05)
        assert found.accuracies[-1] >= 0.9 > max(found.accuracies[:-1])

    def test_the_curve_begins_with_the_model_as_it_is(self):
        model, data = tiny.conv_net(), tiny.blobs()
        said = predict(model, data)
        found = relearn(model, data, goal=1e-6, steps=2)
        assert found.losses[0] == pytest.approx(float(F.cross_entropy(said.logits, said.labels)))
        assert found.accuracies[0] == pytest.approx(float((said.logits.argmax(1) == said.labels).float().mean()))

    def test_a_goal_already_met_takes_no_step(self):
        found = relearn(tiny.mlp(), tiny.blobs(), goal=100.0)
        assert (found.steps, found.censored, len(found.losses)) == (0, False, 1)

    def test_a_cap_that_was_hit_says_so(self):
        found = relearn(tiny.mlp(), wrong(), goal=1e-4, steps=3)
        assert (found.steps, found.censored, len(found.losses)) == (3, True, 4)

    def test_one_step_is_plain_sgd(self):
        """On the mean loss of the target batch plus that of the retain batch."""
        target, retain, model = tiny.blobs(20, 1), tiny.blobs(20, 2), tiny.mlp()
        found = relearn(model, target, retain=retain, goal=1e-9, steps=2, lr=0.1, momentum=0.5)
        velocity = [torch.zeros_like(p) for p in model.parameters()]
        for _ in range(2):
            loss = sum(F.cross_entropy(model(x.images), x.labels) for x in (target, retain))
            for p, v, g in zip(
                model.parameters(), velocity, torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                v.mul_(0.5).add_(g)
                p.data.sub_(0.1 * v)
        left = F.cross_entropy(model(target.images), target.labels).item()
        assert found.losses[-1] == pytest.approx(left, rel=1e-5)

    def test_retained_examples_slow_down_the_learning_of_what_contradicts_them(self):
        target = Examples(tiny.blobs(30, 1).images, (tiny.blobs(30, 1).labels + 1) % 3)
        alone = relearn(tiny.mlp(), target, goal=0.5, lr=0.05)
        held = relearn(tiny.mlp(), target, goal=0.5, lr=0.05, retain=tiny.blobs(120, 2))
        assert alone.steps < held.steps

    def test_follows_the_seed_and_leaves_the_caller_alone(self):
        model, data = tiny.conv_net(), tiny.blobs()
        model.train()
        before, state = tiny.weights(model), torch.get_rng_state()
        one, same, other = (
            relearn(model, data, retain=wrong(), goal=1e-6, steps=4, batch_size=32, seed=s) for s in (0, 0, 1)
        )
        assert one == same != other
        assert tiny.same(before, tiny.weights(model))
        assert torch.equal(state, torch.get_rng_state())
        assert all(m.training for m in model.modules())
        assert all(p.grad is None for p in model.parameters())

    @pytest.mark.parametrize("policy", ["frozen", "train"])
    def test_statistics_follow_the_batches_or_stay(self, policy):
        model = tiny.conv_net()
        for p in model.parameters():
            p.requires_grad_(False)
        model[5].bias.requires_grad_(True)
        shifted = Examples(tiny.blobs().images + 50, tiny.blobs().labels)
        found = relearn(model, shifted, goal=1e-9, lr=1e-12, steps=1, batch_norm=policy)
        assert (found.losses[1] == pytest.approx(found.losses[0], rel=1e-6)) == (policy == "frozen")

    def test_a_loader_will_do(self):
        loader = torch.utils.data.DataLoader(tiny.blobs(), batch_size=40, shuffle=True)
        assert relearn(tiny.mlp(), loader, goal=0.5, lr=0.05) == relearn(tiny.mlp(), loader, goal=0.5, lr=0.05)


class TestBadInput:
    @pytest.mark.parametrize(
        "bad",
        [
            {"goal": 0.0},
            {"goal": math.nan},
            {"goal": 1.5, "measure": "accuracy"},
            {"measure": "error"},
            {"batch_norm": "eval"},
            {"lr": 0.0},
            {"lr": math.nan},
            {"momentum": 1.0},
            {"steps": 0},
            {"batch_size": 0},
        ],
    )
    def test_settings_are_checked(self, bad):
        with pytest.raises(InvalidInputError, match=f"`{next(reversed(bad)) if 'goal' not in bad else 'goal'}`"):
            relearn(tiny.mlp(), tiny.blobs(), **({"goal": 0.5} | bad))

    def test_models_that_cannot_learn_are_refused(self):
        with pytest.raises(ModelError, match="No parameter"):
            relearn(tiny.mlp().requires_grad_(False), tiny.blobs(), goal=0.5)
        broken = tiny.mlp()
        nn.init.constant_(broken[1].weight, math.nan)
        with pytest.raises(ModelError, match="not finite"):
            relearn(broken, tiny.blobs(), goal=0.5)

    def test_divergence_is_told(self):
        data = Examples(tiny.blobs().images * 1e15, wrong(120).labels)
        with pytest.raises(NonFiniteError, match="diverged in step"):
            relearn(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), data, goal=1e-9, lr=1e25, steps=20)

    def test_no_example_is_refused(self):
        empty = Examples(torch.zeros(0, 1, 6, 6), torch.zeros(0, dtype=torch.int64))
        with pytest.raises(SplitError, match="empty"):
            relearn(tiny.mlp(), empty, goal=0.5)


def test_results_are_plain_numbers():
    found = relearn(tiny.mlp(), tiny.blobs(), goal=0.9, lr=0.05)
    assert all(type(x) is float for x in (*found.losses, *found.accuracies))
    assert np.diff(found.losses).min() < 0
