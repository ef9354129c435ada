import copy

import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty.data import Batches
from amnesty.errors import InvalidInputError
from amnesty.methods.fcs import FCS
from tests import tiny
from tests.methods.by_hand import assert_same_weights, batches_that_moved_statistics

RATES = {"lr": 0.02, "uniform_lr": 0.05, "contrast_lr": 0.01, "least_lr": 0.002}


@pytest.mark.parametrize("forget", [0.1, 0.7])
def test_it_forgets_contrasts_and_strengthens(forget):
    task = tiny.task(tiny.mlp(), forget=forget)
    method = FCS(
        epochs=3, batch_size=20, forget_batch_size=5, temperature=1.5, momentum=0.8, weight_decay=0.05, **RATES
    )
    outcome = amnesty.unlearn(task, method, seed=3)
    model = copy.deepcopy(task.model).train()
    rates = ((0.05, 0.0), (0.01, 0.0), (0.02, 0.05))
    erase, contrast, repair = (torch.optim.SGD(model.parameters(), a, 0.8, weight_decay=b) for a, b in rates)

    def step(optimizer, loss):
        model.zero_grad()
        loss.backward()
        optimizer.step()

    shown, beside, kept = (
        Batches(task.parts[part], size, 3, name)
        for part, size, name in (("forget", 5, "forget"), ("retain", 5, "forget (beside)"), ("retain", 20, "retain"))
    )
    for images, _ in shown.iterate(1):
        step(erase, -(3 * F.softmax(model(images), dim=1)).log().mean())
    total = min(len(shown), len(beside)) * 3
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(contrast, total, eta_min=0.002)
    for epoch in range(3):
        first, second = 2 + 2 * epoch, 3 + 2 * epoch
        for (mine, _), (other, _) in zip(shown.iterate(first), beside.iterate(first), strict=False):
            z, retained = model(mine), model(other).detach()
            similar = torch.stack([torch.stack([a @ b / 1.5 for b in retained]) for a in z])
            step(contrast, -F.log_softmax(similar, dim=1).mean())
            cosine.step()
        for images, labels in kept.iterate(second):
            step(repair, F.cross_entropy(model(images), labels))
    assert_same_weights(outcome.model, model)
    assert len(outcome.history) == len(shown) + total + 3 * len(kept)


def test_a_schedule_is_over_all_epochs():
    method = FCS(epochs=2, batch_size=54, schedule="linear", lr=0.08)
    history = amnesty.unlearn(tiny.task(tiny.mlp()), method).history
    assert [r["lr"] for r in history if "retain_loss" in r] == pytest.approx([0.08, 0.06, 0.04, 0.02])
    contrasted = [r["lr"] for r in history if "forget_loss" in r][1:]
    assert contrasted == pytest.approx([3e-4, (3e-4 + 1e-6) / 2])


def test_a_saliency_mask_holds_through_all_passes():
    task = tiny.task(tiny.mlp())
    found = amnesty.unlearn(task, FCS(saliency=0.25, epochs=2)).model
    moved = sum(int((p != q).sum()) for p, q in zip(found.parameters(), task.model.parameters(), strict=True))
    assert 0.2 < moved / sum(p.numel() for p in found.parameters()) <= 0.25


@pytest.mark.parametrize(("given", "moved"), [({}, 9), ({"batch_norm": "eval"}, 0)])
def test_batch_norm_follows_its_policy(given, moved):
    outcome = amnesty.unlearn(tiny.task(), FCS(epochs=2, batch_size=54, **given))
    # the first pass, then in each epoch a pair and two retained batches
    assert batches_that_moved_statistics(outcome) == moved


@pytest.mark.parametrize("name", ["uniform_lr", "contrast_lr", "temperature", "forget_batch_size"])
def test_settings_out_of_range_are_refused(name):
    with pytest.raises(InvalidInputError, match=f"`{name}` must be"):
        FCS(**{name: 0})
