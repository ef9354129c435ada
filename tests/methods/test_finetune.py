import pytest

import amnesty
from amnesty.methods import FineTune
from tests import tiny
from tests.methods.by_hand import (
    SETTINGS,
    assert_same_weights,
    batches_that_moved_statistics,
    by_hand,
    entropy,
    slope,
)


def test_it_is_ordinary_training_on_the_retain_set():
    task = tiny.task(tiny.mlp())
    outcome = amnesty.unlearn(task, FineTune(batch_size=20, **SETTINGS), seed=3)

    def direction(model, batches):
        return slope(model, entropy(model, batches["retain"]))

    expected = by_hand(task, direction, {"retain": 20}, pairing="truncate", seed=3, **SETTINGS)
    assert_same_weights(outcome.model, expected)
    assert len(outcome.history) == 3 * 6 and all(record["retain_weight"] == 1 for record in outcome.history)


def test_the_forget_set_makes_no_difference():
    task = tiny.task(tiny.mlp())
    other = amnesty.Classification(tiny.mlp(), forget=tiny.blobs(9, seed=3), retain=task.parts["retain"])
    first, second = (amnesty.unlearn(t, FineTune(epochs=1)).model for t in (task, other))
    assert tiny.same(tiny.weights(first), tiny.weights(second))


@pytest.mark.parametrize(
    ("given", "moved"), [({}, 4), ({"batch_norm": "retain_stats"}, 4), ({"batch_norm": "eval"}, 0)]
)
def test_batch_norm_follows_its_policy(given, moved):
    outcome = amnesty.unlearn(tiny.task(), FineTune(epochs=1, batch_size=27, **given))
    assert batches_that_moved_statistics(outcome) == moved
