import pytest
import torch

import amnesty
from amnesty.errors import InvalidInputError
from amnesty.methods import FineTune
from amnesty.methods.l1_sparse import L1Sparse
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, entropy, slope


@pytest.mark.parametrize(("free", "strengths"), [(0, [1, 2 / 3, 1 / 3]), (1, [1, 1 / 2, 0]), (3, [1, 1, 1])])
def test_it_is_training_on_the_retain_set_under_a_fading_subgradient_of_all_weights(free, strengths):
    task = tiny.task(tiny.mlp())
    method = L1Sparse(batch_size=20, l1=0.02, free_epochs=free, **SETTINGS)
    outcome = amnesty.unlearn(task, method, seed=3)
    steps = []

    def direction(model, batches):
        l1 = 0.02 * strengths[len(steps) // 6]
        steps.append(batches)
        return slope(model, entropy(model, batches["retain"]) + l1 * sum(p.abs().sum() for p in model.parameters()))

    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, **SETTINGS)
    assert_same_weights(outcome.model, expected)
    assert len(steps) == len(outcome.history) == 18


def test_the_proximal_step_comes_after_each_step_of_the_optimiser_and_shrinks_by_lr_times_l1():
    task = tiny.task(tiny.mlp())
    method = L1Sparse(batch_size=54, epochs=2, lr=0.1, l1=0.3, proximal=True, schedule="linear")
    outcome = amnesty.unlearn(task, method, seed=3)
    model, velocity = tiny.mlp().train(), None
    for k, batch in enumerate(batches(task, 54, 2, seed=3)):
        update = [g + 5e-4 * p for g, p in zip(slope(model, entropy(model, batch)), model.parameters(), strict=True)]
        velocity = update if velocity is None else [0.9 * v + u for v, u in zip(velocity, update, strict=True)]
        lr, l1 = 0.1 * (1 - k / 4), 0.3 * (1.0, 1.0, 0.5, 0.5)[k]
        with torch.no_grad():
            for p, v in zip(model.parameters(), velocity, strict=True):
                moved = p - lr * v
                p.copy_(moved.sign() * (moved.abs() - lr * l1).clamp(min=0))
    assert_same_weights(outcome.model, model)


def batches(task, size, epochs, seed):
    from amnesty.data import Batches

    stream = Batches(task.parts["retain"], size, seed, "retain")
    return [batch for epoch in range(1, epochs + 1) for batch in stream.iterate(epoch)]


@pytest.mark.parametrize("proximal", [False, True])
def test_only_the_proximal_step_makes_zeros(proximal):
    method = L1Sparse(l1=0.5, lr=0.05, epochs=3, batch_size=27, proximal=proximal)
    model = amnesty.unlearn(tiny.task(tiny.mlp()), method).model
    zeros = sum(int((p == 0).sum()) for p in model.parameters())
    assert zeros > 50 if proximal else zeros == 0


@pytest.mark.parametrize("proximal", [False, True])
def test_without_a_pull_it_is_fine_tuning_to_the_bit(proximal):
    task = tiny.task()
    given = {"epochs": 2, "batch_size": 27}
    found = amnesty.unlearn(task, L1Sparse(l1=0, proximal=proximal, **given)).model
    assert tiny.same(tiny.weights(found), tiny.weights(amnesty.unlearn(task, FineTune(**given)).model))


@pytest.mark.parametrize("proximal", [False, True])
def test_what_must_not_move_is_not_pulled(proximal):
    task = tiny.task(tiny.mlp())
    task.model[1].weight.requires_grad_(False)
    mask = torch.rand(3, 16) < 0.5
    method = L1Sparse(l1=0.5, epochs=1, proximal=proximal, sam=0.01)
    found = amnesty.unlearn(task, method, masks={"3.weight": mask}).model
    assert torch.equal(found[1].weight, task.model[1].weight)
    assert torch.equal(found[3].weight[~mask], task.model[3].weight[~mask])
    assert (found[3].weight != task.model[3].weight)[mask].all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"free_epochs": 4, "epochs": 3}, "`free_epochs` must be at most `epochs`, 3, found 4"),
        ({"free_epochs": -1}, "`free_epochs` must be a whole number of at least 0"),
        ({"l1": -1e-3}, "`l1` must be a number of at least 0"),
        ({"proximal": "yes"}, "`proximal` must be True or False"),
    ],
)
def test_settings_are_checked(given, message):
    with pytest.raises(InvalidInputError, match=message):
        L1Sparse(**given)
