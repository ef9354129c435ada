import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Dataset, Subset

import amnesty
from amnesty.data import Batches, Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods.unsir import UNSIR
from amnesty.seeds import generator
from amnesty.tasks.relabelling import some_of_each
from tests import tiny
from tests.methods.by_hand import assert_same_weights

QUICK = {"noise_steps": 4, "noise_size": 5, "copies": 3}


def task(model: nn.Module | None = None, gone: tuple[int, ...] = (2,)) -> amnesty.Classification:
    data = tiny.blobs(120)
    parts = split(data, Classes(list(gone))).parts(data)
    return amnesty.Classification(model or tiny.mlp(), forget=parts["forget"], retain=parts["retain"])


def noise_by_hand(model: nn.Module, label: int, seed: int) -> torch.Tensor:
    x = torch.randn(5, 1, 6, 6, generator=generator(seed, "impairing noise", label)).requires_grad_()
    adam = torch.optim.Adam([x], lr=0.3)
    for _ in range(4):
        adam.zero_grad()
        loss = 0.2 * x.square().sum() / 5 - F.cross_entropy(model(x), torch.full((5,), label))
        loss.backward(inputs=[x])
        adam.step()
    return x.detach()


@pytest.mark.parametrize("gone", [(2,), (0, 2)])
def test_it_impairs_with_noise_and_repairs(gone):
    asked = task(gone=gone)
    method = UNSIR(
        lr=0.02,
        impair_lr=0.05,
        batch_size=11,
        impair_batch_size=7,
        per_class=20,
        noise_lr=0.3,
        noise_penalty=0.2,
        **QUICK,
    )
    outcome = amnesty.unlearn(asked, method, seed=3)
    model, retain = copy.deepcopy(asked.model).train(), asked.parts["retain"]
    kept = Subset(retain, some_of_each(asked.labels("retain"), 20, generator(3, "retained")))
    noise = [Examples(noise_by_hand(asked.model, c, 3).repeat(3, 1, 1, 1), torch.full((15,), c)) for c in gone]
    phases = [("impair", ConcatDataset([*noise, kept]), 7, 0.05), ("retain", kept, 11, 0.02)]
    for epoch, (name, data, size, lr) in enumerate(phases, start=1):
        adam = torch.optim.Adam(model.parameters(), lr)
        for inputs, labels in Batches(data, size, 3, name).iterate(epoch):
            adam.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            adam.step()
    assert len(kept) == 20 * (3 - len(gone))
    for (name, p), q in zip(outcome.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", ["pairs", "mappings"])
def test_data_may_be_read_one_by_one(kind):
    asked = task()
    read = [
        (image, int(label)) if kind == "pairs" else {"image": image, "label": int(label)}
        for image, label in asked.parts["retain"]
    ]
    other = amnesty.Classification(asked.model, forget=asked.parts["forget"], retain=read)
    ends = [tiny.weights(amnesty.unlearn(one, UNSIR(**QUICK)).model) for one in (asked, other)]
    assert tiny.same(*ends)


def test_learning_the_noise_changes_nothing_in_the_model():
    """Acceptance test 13: not even in the statistics of a model that comes in training mode."""
    asked = task(tiny.conv_net().train())
    rates = {"lr": 1e-30, "impair_lr": 1e-30, "batch_norm": "eval"}
    found = amnesty.unlearn(asked, UNSIR(**rates, **QUICK)).model
    torch.testing.assert_close(tiny.weights(found), tiny.weights(tiny.conv_net()), rtol=0, atol=1e-20)


def test_phases_have_settings_of_their_own():
    method = UNSIR(epochs=3, impair_epochs=2, impair_batch_size=25, batch_size=40, lr=0.1, impair_lr=0.2, **QUICK)
    history = amnesty.unlearn(task(), method).history
    assert ["impair_loss" in r for r in history] == 2 * 4 * [True] + 3 * 2 * [False]
    assert [r["lr"] for r in history] == 8 * [0.2] + 6 * [0.1]
    assert {r["epoch"] for r in history} == {1, 2, 3, 4, 5}


class Once(Dataset):
    """A data set that can be closed."""

    def __init__(self, data):
        self.data, self.closed = data, False

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        assert not self.closed, "read"
        return self.data[index]


def test_the_forget_set_is_not_read():
    asked = task()
    forget = Once(asked.parts["forget"])
    asked = amnesty.Classification(asked.model, forget=forget, retain=asked.parts["retain"])
    asked.check()
    forget.closed = True
    assert amnesty.unlearn(asked, UNSIR(**QUICK)).history


def test_only_whole_classes_can_be_forgotten():
    with pytest.raises(InvalidInputError, match="UNSIR forgets whole classes, but"):
        amnesty.unlearn(tiny.task(), UNSIR())
    data = tiny.blobs(30)
    mixed = amnesty.Classification(
        tiny.mlp(),
        forget=Subset(data, [*range(2, 30, 3), 0]),
        retain=Subset(data, [k for k in range(1, 30) if k % 3 != 2]),
    )
    with pytest.raises(InvalidInputError, match="has examples of 1 of the classes in the forget set, such as 0"):
        amnesty.unlearn(mixed, UNSIR())


def test_a_saliency_mask_holds_through_both_phases():
    asked = task()
    found = amnesty.unlearn(asked, UNSIR(saliency=0.25, lr=0.1, impair_lr=0.1, **QUICK)).model
    moved = sum(int((p != q).sum()) for p, q in zip(found.parameters(), asked.model.parameters(), strict=True))
    assert moved <= 0.25 * sum(p.numel() for p in found.parameters())
    assert_same_weights(asked.model, tiny.mlp())


@pytest.mark.parametrize("name", ["impair_lr", "noise_lr", "copies", "per_class", "noise_size", "impair_epochs"])
def test_settings_out_of_range_are_refused(name):
    with pytest.raises(InvalidInputError, match=f"`{name}` must be"):
        UNSIR(**{name: 0})
