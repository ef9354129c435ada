import pytest
import torch

import amnesty
from amnesty.errors import InvalidInputError, ModelError
from amnesty.methods.cf_k import CFk
from tests import tiny
from tests.methods.by_hand import assert_same_weights, by_hand, entropy, slope
from tests.methods.nets import deep_mlp, two_convs


@pytest.mark.parametrize(("stages", "last"), [(1, ("3", "5")), (2, ("1", "3", "5"))])
@pytest.mark.parametrize("pull", [0.0, 0.3])
def test_it_is_training_of_the_last_stages_with_a_pull_back(stages, last, pull):
    task = tiny.task(deep_mlp())
    settings = {"lr": 0.1, "epochs": 3, "momentum": 0.6, "weight_decay": 0.0, "schedule": "cosine"}
    outcome = amnesty.unlearn(task, CFk(stages=stages, pull=pull, batch_size=20, **settings), seed=3)

    def direction(model, batches):
        pairs = zip(model.parameters(), task.model.parameters(), strict=True)
        loss = entropy(model, batches["retain"]) + pull / 2 * sum((p - q).square().sum() for p, q in pairs)
        names = (name for name, _ in model.named_parameters())
        return [g * (n.split(".")[0] in last) for n, g in zip(names, slope(model, loss), strict=True)]

    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, **settings)
    assert_same_weights(outcome.model, expected)


@pytest.mark.parametrize("given", [{}, {"batch_norm": "train"}])
def test_frozen_stages_keep_their_buffers_and_weights_to_the_bit(given):
    """Acceptance test 10."""
    task = tiny.task(two_convs())
    before = tiny.weights(task.model)
    after = tiny.weights(amnesty.unlearn(task, CFk(epochs=2, weight_decay=0.1, **given)).model)
    same = {name.split(".")[0] for name in before if torch.equal(before[name], after[name])}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"0", "1"} <= same and not any(name.split(".")[0] in ("0", "1") for name in changed)
    assert {"3.weight", "7.weight", "7.bias"} <= changed
    assert ("4.running_mean" in changed) == bool(given)


@pytest.mark.parametrize(
    ("epochs", "rates"),
    [(1, [1]), (2, [1, 0.1]), (5, [1, 1, 1, 0.1, 0.01]), (10, [1] * 5 + [0.1] * 3 + [0.01, 0.001])],
)
def test_the_learning_rate_falls_at_50_80_and_90_percent_of_the_passes(epochs, rates):
    history = amnesty.unlearn(tiny.task(deep_mlp()), CFk(epochs=epochs, batch_size=50)).history
    assert [r["lr"] for r in history] == pytest.approx([0.01 * rate for rate in rates for _ in range(3)])


def test_more_stages_than_there_are_is_refused_before_any_work():
    task, seen = tiny.task(deep_mlp()), []
    with pytest.raises(InvalidInputError, match="`stages` must be at most 2, as many as .* found 3"):
        amnesty.unlearn(task, CFk(stages=3), progress=lambda *record: seen.append(record))
    assert not seen


def test_what_the_user_froze_stays_frozen_and_flags_come_back_when_a_run_fails():
    task = tiny.task(deep_mlp())
    task.model[3].weight.requires_grad_(False)
    found = amnesty.unlearn(task, CFk(epochs=1)).model
    assert torch.equal(found[3].weight, task.model[3].weight) and not torch.equal(found[3].bias, task.model[3].bias)
    assert [p.requires_grad for p in found.parameters()] == [p.requires_grad for p in task.model.parameters()]

    loop = amnesty.training.Loop(task.model, task.sources, watch=lambda *record: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        CFk(epochs=1).run(task, loop)
    assert [n for n, p in task.model.named_parameters() if not p.requires_grad] == ["3.weight"]


def test_nothing_left_to_train_is_refused():
    task = tiny.task(deep_mlp())
    for layer in (3, 5):
        task.model[layer].requires_grad_(False)
    with pytest.raises(ModelError, match="All 4 parameters that are to be trained are frozen"):
        amnesty.unlearn(task, CFk())
