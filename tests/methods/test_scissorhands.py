import copy

import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty.data import Batches, pair
from amnesty.errors import InvalidInputError
from amnesty.methods.scissorhands import Scissorhands
from amnesty.weights import snip_trim
from tests import tiny
from tests.methods.by_hand import assert_same_weights, entropy
from tests.training.test_projection import dual_by_hand

LAST = ["3.weight", "3.bias"]


def bent(model, memories: torch.Tensor) -> None:
    """Replace the gradient by the closest one that works against no memory."""
    parameters = [model.get_parameter(name) for name in LAST]
    g = torch.cat([p.grad.flatten() for p in parameters]).double()
    if (memories @ g).min() >= 0:
        return
    v = dual_by_hand(memories, g, 0.5)
    for parameter, new in zip(parameters, (g + memories.T @ v).split([48, 3]), strict=True):
        parameter.grad = new.view(parameter.shape).float()


def memories_of(model, batches) -> torch.Tensor:
    rows = []
    for images, labels in batches:
        twin = copy.deepcopy(model).eval()
        (-F.cross_entropy(twin(images), labels)).backward()
        rows.append(torch.cat([twin.get_parameter(name).grad.flatten() for name in LAST]).double())
    return torch.stack(rows)


@pytest.mark.parametrize("project", [False, True])
def test_it_trims_and_then_repairs(project):
    """Acceptance test 8, through the method."""
    task = tiny.task(tiny.mlp())
    method = Scissorhands(
        stages=1, trim=0.05, project=project, memories=2, forget_weight=0.7, lr=0.05, epochs=2, batch_size=5
    )
    outcome = amnesty.unlearn(task, method, seed=3)
    model = copy.deepcopy(task.model).train()
    snip_trim(model, task.parts["forget"], 0.05, names=LAST, batch_size=5, seed=3)
    sgd = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4)
    streams = {part: Batches(task.parts[part], 5, 3, part) for part in ("forget", "retain")}
    looked_at = Batches(task.parts["forget"], 5, 3, "memories")
    for epoch in (1, 2):
        memories = memories_of(model, list(looked_at.iterate(epoch))[:2])
        for batches in pair(streams, "retain_tail", epoch):
            sgd.zero_grad()
            loss = entropy(model, batches["retain"])
            if "forget" in batches:
                loss = loss - 0.7 * entropy(model, batches["forget"])
            loss.backward()
            if project:
                bent(model, memories)
            sgd.step()
    assert_same_weights(outcome.model, model)
    assert not torch.equal(outcome.model[1].weight, task.model[1].weight)


def test_trimming_renews_what_matters_but_no_norm():
    """Acceptance test 8: at a rate of nothing only the trimming is left."""
    task = tiny.task()
    for stages, moved in ((1, {"5.weight", "5.bias"}), (3, {"0.weight", "5.weight", "5.bias"})):
        outcome = amnesty.unlearn(task, Scissorhands(trim=1.0, stages=stages, lr=1e-30, epochs=1, batch_norm="eval"))
        far = {
            name
            for (name, p), q in zip(outcome.model.named_parameters(), task.model.parameters(), strict=True)
            if (p - q).abs().max() > 1e-20
        }
        assert far == moved and outcome.history[0]["trimmed"] > 0.9
        assert tiny.same(dict(outcome.model[1].named_buffers()), dict(task.model[1].named_buffers()))


def test_the_share_is_of_all_weights_or_of_the_eligible_ones():
    task, fractions = tiny.task(tiny.mlp()), []
    for scope in ("all", "eligible"):
        outcome = amnesty.unlearn(task, Scissorhands(trim=0.2, stages=1, scope=scope, epochs=1))
        fractions.append(outcome.history[0]["trimmed"])
    assert fractions[1] == pytest.approx(int(0.2 * 51) / 51) and fractions[0] != fractions[1]


def test_the_retain_set_goes_on_alone():
    history = amnesty.unlearn(tiny.task(tiny.mlp()), Scissorhands(epochs=1, batch_size=9)).history[1:]
    assert ["forget_loss" in record for record in history] == 2 * [True] + 10 * [False]
    assert all(record["retain_weight"] == 1 for record in history)
    assert all(record["forget_weight"] == pytest.approx(0.1) for record in history[:2])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"trim": 1.2}, r"`trim` must be in \[0, 1\]"),
        ({"scope": "some"}, "`scope` must be one of all, eligible"),
        ({"memories": 0}, "`memories` must be"),
        ({"margin": -1}, "`margin` must be"),
        ({"project": "yes"}, "`project` must be True or False"),
        ({"pairing": "sequential"}, "`pairing` must be one of cycle_forget, retain_tail, truncate, found"),
    ],
)
def test_settings_out_of_range_are_refused(given, reason):
    with pytest.raises(InvalidInputError, match=reason):
        Scissorhands(**given)
