import pytest

import amnesty
from amnesty.methods import GradientAscent
from tests import tiny
from tests.methods.by_hand import (
    SETTINGS,
    assert_same_weights,
    batches_that_moved_statistics,
    by_hand,
    entropy,
    slope,
)


def test_it_is_descent_on_minus_the_cross_entropy_of_the_forget_set():
    task = tiny.task(tiny.mlp())
    outcome = amnesty.unlearn(task, GradientAscent(batch_size=5, **SETTINGS), seed=3)

    def direction(model, batches):
        return slope(model, -entropy(model, batches["forget"]))

    assert_same_weights(
        outcome.model, by_hand(task, direction, {"forget": 5}, pairing="truncate", seed=3, **SETTINGS)
    )
    assert len(outcome.history) == 3 * 3 and all(record["forget_weight"] == 1 for record in outcome.history)


def test_it_forgets():
    task = tiny.task(tiny.mlp())
    losses = [r["forget_loss"] for r in amnesty.unlearn(task, GradientAscent(lr=0.1, epochs=8)).history]
    assert losses[0] < 0 and losses == sorted(losses, reverse=True)


def test_the_cap_and_the_longest_update_hold():
    task = tiny.task(tiny.mlp())
    outcome = amnesty.unlearn(task, GradientAscent(batch_size=5, cap=1.2, max_norm=0.1, **SETTINGS), seed=3)

    def direction(model, batches):
        return slope(model, -entropy(model, batches["forget"], cap=1.2))

    expected = by_hand(task, direction, {"forget": 5}, pairing="truncate", max_norm=0.1, seed=3, **SETTINGS)
    assert_same_weights(outcome.model, expected)
    assert min(record["forget_loss"] for record in outcome.history) >= -1.2 - 1e-6
    assert max(record["length"] for record in outcome.history) > 0.1, "the clip has nothing to do in this test"


def test_a_cap_below_every_loss_leaves_nothing_to_do():
    task = tiny.task(tiny.mlp())
    outcome = amnesty.unlearn(task, GradientAscent(lr=1.0, cap=1e-3, weight_decay=0.0))
    assert tiny.same(tiny.weights(outcome.model), tiny.weights(task.model))


@pytest.mark.parametrize(
    ("given", "moved"), [({}, 0), ({"batch_norm": "retain_stats"}, 0), ({"batch_norm": "train"}, 2)]
)
def test_batch_norm_follows_its_policy(given, moved):
    outcome = amnesty.unlearn(tiny.task(), GradientAscent(epochs=1, batch_size=6, **given))
    assert batches_that_moved_statistics(outcome) == moved
