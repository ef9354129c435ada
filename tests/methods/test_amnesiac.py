from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

import amnesty
from amnesty.data import Examples
from amnesty.methods.amnesiac import Amnesiac
from amnesty.seeds import generator
from amnesty.tasks.forgetting import draw_labels
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, entropy, slope


def test_it_is_ordinary_training_on_a_mixture_with_labels_drawn_once():
    task = tiny.task(tiny.mlp())
    outcome = amnesty.unlearn(task, Amnesiac(optimizer="sgd", batch_size=20, **SETTINGS), seed=3)
    images, labels = task.parts["forget"][list(range(12))]
    wrong = draw_labels(labels, torch.arange(tiny.CLASSES), True, generator(3, "wrong labels"))
    mixture = ConcatDataset([Examples(images, wrong), task.parts["retain"]])
    expected = by_hand(
        SimpleNamespace(model=task.model, parts={"together": mixture}),
        lambda model, batches: slope(model, entropy(model, batches["together"])),
        {"together": 20},
        pairing="sequential",
        seed=3,
        **SETTINGS,
    )
    assert_same_weights(outcome.model, expected)
    assert (wrong != labels).all() and len(set(((wrong - labels) % 3).tolist())) == 2


def test_the_order_of_a_loader_does_not_matter():
    task = tiny.task(tiny.mlp())
    parts = {part: task.parts[part] for part in ("forget", "retain")}
    loaders = {part: DataLoader(source, batch_size=7, shuffle=True) for part, source in parts.items()}
    plain = amnesty.unlearn(task, Amnesiac(epochs=1)).model
    assert tiny.same(
        tiny.weights(plain),
        tiny.weights(amnesty.unlearn(amnesty.Classification(tiny.mlp(), **loaders), Amnesiac(epochs=1)).model),
    )


def test_data_may_be_read_one_by_one():
    task = tiny.task(tiny.mlp())
    read = [{"image": image, "label": int(label)} for image, label in task.parts["retain"]]
    other = amnesty.Classification(tiny.mlp(), forget=task.parts["forget"], retain=read)
    ends = [tiny.weights(amnesty.unlearn(one, Amnesiac(epochs=1)).model) for one in (task, other)]
    assert tiny.same(*ends)


def test_by_default_adam_moves_each_weight_by_its_rate_in_the_first_step():
    task = tiny.task(tiny.mlp(), count=60)
    outcome = amnesty.unlearn(task, Amnesiac(epochs=1))
    assert len(outcome.history) == 1
    for p, q in zip(outcome.model.parameters(), task.model.parameters(), strict=True):
        assert (p - q).abs().median().item() == pytest.approx(1e-4, rel=1e-2)
