import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty.methods import RandomLabels
from amnesty.seeds import generator
from amnesty.tasks.forgetting import draw_labels
from tests import tiny
from tests.methods.by_hand import (
    SETTINGS,
    assert_same_weights,
    batches_that_moved_statistics,
    by_hand,
    entropy,
    slope,
)


@pytest.mark.parametrize("pairing", ["sequential", "cycle_forget"])
@pytest.mark.parametrize("exclude_true", [False, True])
def test_it_is_ordinary_training_with_labels_drawn_for_each_batch(pairing, exclude_true):
    task = tiny.task(tiny.mlp())
    method = RandomLabels(batch_size=9, exclude_true=exclude_true, pairing=pairing, **SETTINGS)
    outcome = amnesty.unlearn(task, method, seed=3)
    random, classes = generator(3, "labels", "forget"), torch.arange(tiny.CLASSES)

    def direction(model, batches):
        loss = 0.0
        if "forget" in batches:
            images, labels = batches["forget"]
            loss = loss + F.cross_entropy(model(images), draw_labels(labels, classes, exclude_true, random))
        if "retain" in batches:
            loss = loss + entropy(model, batches["retain"])
        return slope(model, loss)

    expected = by_hand(task, direction, {"forget": 9, "retain": 9}, pairing=pairing, seed=3, **SETTINGS)
    assert_same_weights(outcome.model, expected)


def test_by_default_each_epoch_is_the_forget_set_and_then_the_retain_set():
    history = amnesty.unlearn(tiny.task(tiny.mlp()), RandomLabels(epochs=2, batch_size=6)).history
    order = ["retain" if "retain_loss" in r else "forget" for r in history]
    assert order == 2 * (2 * ["forget"] + 18 * ["retain"])
    assert all(r["epoch"] == 1 + k // 20 and "cosine" not in r for k, r in enumerate(history))
    assert all(r.get("forget_weight", r.get("retain_weight")) == 1 for r in history)


def test_by_default_the_true_label_may_be_drawn():
    task, unlucky = tiny.task(tiny.mlp()), []
    for method in (RandomLabels(epochs=1), RandomLabels(epochs=1, exclude_true=True)):
        unlucky.append(tiny.weights(amnesty.unlearn(task, method).model))
    assert not tiny.same(*unlucky)


@pytest.mark.parametrize(
    ("given", "moved"), [({}, 5), ({"batch_norm": "retain_stats"}, 4), ({"batch_norm": "eval"}, 0)]
)
def test_batch_norm_follows_its_policy(given, moved):
    outcome = amnesty.unlearn(tiny.task(), RandomLabels(epochs=1, batch_size=27, **given))
    assert batches_that_moved_statistics(outcome) == moved
