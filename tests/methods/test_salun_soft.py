import copy

import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty.data import Batches, Together
from amnesty.errors import InvalidInputError
from amnesty.methods.salun_soft import SalUnSoft
from amnesty.seeds import generator
from amnesty.tasks.forgetting import draw_labels
from tests import tiny
from tests.methods.by_hand import assert_same_weights


def flat(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("held", [0.0, 0.7])
def test_it_is_training_on_random_labels_with_a_soft_threshold_after_each_step(held):
    task = tiny.task(tiny.mlp())
    method = SalUnSoft(held=held, lr=0.05, epochs=2, batch_size=40, momentum=0.6, weight_decay=0.05)
    outcome = amnesty.unlearn(task, method, seed=3)
    model, random = copy.deepcopy(task.model).train(), generator(3, "labels", "together")
    start, step = flat(model), 0
    sgd = torch.optim.SGD(model.parameters(), 0.05, 0.6, weight_decay=0.05)
    stream = Batches(Together([task.parts["forget"], task.parts["retain"]]), 40, 3, "together")
    for epoch in (1, 2):
        for (images, labels), origin in stream.iterate(epoch):
            sgd.zero_grad()
            wrong = draw_labels(labels[origin == 0], torch.arange(3), False, random)
            F.cross_entropy(model(images), labels.masked_scatter(origin == 0, wrong)).backward()
            sgd.step()
            step += 1
            change = flat(model) - start
            k = int(held * (1 - step / 6) * len(start))
            tau = change.abs().sort().values[k - 1] if k else 0.0
            theta = start + change.sign() * (change.abs() - tau).clamp(min=0)
            torch.nn.utils.vector_to_parameters(theta, model.parameters())
    assert step == 6
    assert_same_weights(outcome.model, model)


def test_a_users_mask_holds_and_only_what_may_move_is_counted():
    task = tiny.task(tiny.mlp())
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in task.model.named_parameters()}
    masks["3.weight"][1] = True  # 16 weights, fewer than those that are held
    ends = []
    for held in (0.0, 0.5):
        method = SalUnSoft(held=held, weight_decay=0.0)
        ends.append(amnesty.unlearn(task, method, masks=masks).model)
    assert torch.equal(ends[1][3].weight != task.model[3].weight, masks["3.weight"])
    assert torch.equal(ends[1][1].weight, task.model[1].weight)
    assert not torch.equal(ends[0][3].weight, ends[1][3].weight)


def test_a_share_is_a_share():
    with pytest.raises(InvalidInputError, match=r"`held` must be in \[0, 1\]"):
        SalUnSoft(held=1.5)
