import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty.data import Together
from amnesty.errors import InvalidInputError
from amnesty.methods.salun import SalUn
from amnesty.seeds import generator
from amnesty.tasks.forgetting import draw_labels
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, entropy, slope

EASY = SETTINGS | {"weight_decay": 0.0}  # a masked gradient is then enough


def salient(task: amnesty.Classification, share: float) -> list[torch.Tensor]:
    """The mask, from one example after the other."""
    model = copy.deepcopy(task.model).eval()
    for image, label in task.parts["forget"]:
        F.cross_entropy(model(image[None]), label[None]).backward()
    sizes = torch.cat([p.grad.abs().flatten() for p in model.parameters()])
    threshold = sizes.sort(descending=True).values[int(share * len(sizes)) - 1]
    return [p.grad.abs() >= threshold for p in model.parameters()]


@pytest.mark.parametrize("stream", ["sequential", "mixed"])
@pytest.mark.parametrize("exclude_true", [False, True])
def test_it_is_training_on_random_labels_under_a_mask(stream, exclude_true):
    task = tiny.task(tiny.mlp())
    method = SalUn(saliency=0.3, stream=stream, exclude_true=exclude_true, batch_size=9, **EASY)
    outcome = amnesty.unlearn(task, method, seed=3)
    name = "together" if stream == "mixed" else "forget"
    random, mask = generator(3, "labels", name), salient(task, 0.3)

    def direction(model, batches):
        if "together" in batches:
            (images, labels), origin = batches["together"]
            wrong = draw_labels(labels[origin == 0], torch.arange(3), exclude_true, random)
            loss = F.cross_entropy(model(images), labels.masked_scatter(origin == 0, wrong))
        elif "forget" in batches:
            images, labels = batches["forget"]
            loss = F.cross_entropy(model(images), draw_labels(labels, torch.arange(3), exclude_true, random))
        else:
            loss = entropy(model, batches["retain"])
        return [g * m for g, m in zip(slope(model, loss), mask, strict=True)]

    both = Together([task.parts["forget"], task.parts["retain"]])
    sizes = {"together": 9} if stream == "mixed" else {"forget": 9, "retain": 9}
    source = SimpleNamespace(model=task.model, parts={**task.parts, "together": both})
    assert_same_weights(outcome.model, by_hand(source, direction, sizes, pairing="sequential", seed=3, **EASY))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_the_mask_holds_keeps_its_bits(optimizer):
    """Acceptance test 1: under weight decay and momentum, after 100 steps."""
    task = tiny.task()
    outcome = amnesty.unlearn(task, SalUn(optimizer=optimizer, weight_decay=0.1, batch_size=24))
    assert len(outcome.history) == 60
    for p, q, mask in zip(outcome.model.parameters(), task.model.parameters(), salient(task, 0.5), strict=True):
        assert torch.equal(p != q, mask)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"saliency": None}, "`saliency` must be in"),
        ({"stream": "both"}, "`stream` must be one of sequential, mixed"),
    ],
)
def test_settings_out_of_range_are_refused(given, reason):
    with pytest.raises(InvalidInputError, match=reason):
        SalUn(**given)
