import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import amnesty
from amnesty.errors import ModelError, NonFiniteError
from amnesty.methods.boundary_expanding import BoundaryExpanding
from amnesty.seeds import generator
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, slope


def with_one_class_more(model: nn.Sequential, seed: int) -> nn.Sequential:
    old, random = model[3], generator(seed, "shadow")
    new = nn.Linear(16, tiny.CLASSES + 1)
    with torch.no_grad():
        row = torch.rand(1, 16, generator=random) / 2 - 0.25
        new.weight.copy_(torch.cat([old.weight, row]))
        new.bias.copy_(torch.cat([old.bias, torch.rand(1, generator=random) / 2 - 0.25]))
    return nn.Sequential(*copy.deepcopy(model)[:3], new)


def test_it_is_training_on_a_class_that_is_then_taken_away():
    """Acceptance test 6: the output has C logits after unlearning."""
    asked = amnesty.Classification(tiny.mlp(), forget=tiny.task().parts["forget"])  # and no retain set
    outcome = amnesty.unlearn(asked, BoundaryExpanding(batch_size=5, **SETTINGS), seed=3)

    def direction(model, batches):
        images, _ = batches["forget"]
        return slope(model, F.cross_entropy(model(images), torch.full((len(images),), tiny.CLASSES)))

    start = with_one_class_more(asked.model, 3)
    expected = by_hand(asked, direction, {"forget": 5}, pairing="sequential", seed=3, model=start, **SETTINGS)
    with torch.no_grad():
        for p in expected[3].parameters():
            p.set_(p[: tiny.CLASSES].clone())
    assert_same_weights(outcome.model, expected)
    assert outcome.model(tiny.blobs(4).images).shape == (4, tiny.CLASSES)


@pytest.mark.parametrize("name", tiny.MODELS)
def test_nothing_of_it_is_left(name):
    model = tiny.MODELS[name]()
    for given, fails in (({}, False), ({"lr": 1e30}, True)):
        try:
            found = amnesty.unlearn(tiny.task(model), BoundaryExpanding(epochs=3, **given)).model
            assert not fails
        except NonFiniteError as error:
            assert fails
            found = error.model
        assert found.state_dict().keys() == model.state_dict().keys()
        assert not any(module._forward_hooks for module in found.modules())


def test_a_saliency_mask_is_that_of_the_model_as_it_was():
    task = tiny.task(tiny.mlp())
    outcome = amnesty.unlearn(task, BoundaryExpanding(saliency=0.25, lr=0.1))
    pairs = zip(outcome.model.parameters(), task.model.parameters(), strict=True)
    moved = sum(int((p != q).sum()) for p, q in pairs)
    assert 0.2 < moved / sum(p.numel() for p in task.model.parameters()) <= 0.25


def test_a_frozen_classifier_stays_as_it_is():
    model = tiny.mlp()
    model[3].requires_grad_(False)
    found = amnesty.unlearn(tiny.task(model), BoundaryExpanding(lr=0.1)).model
    assert torch.equal(found[3].weight, model[3].weight) and not torch.equal(found[1].weight, model[1].weight)


def test_other_classifiers_are_refused_before_anything_is_trained():
    model = nn.Sequential(nn.Conv2d(1, tiny.CLASSES, 6), nn.Flatten())
    with pytest.raises(ModelError, match="the classifier '0' of this model is a Conv2d"):
        amnesty.unlearn(tiny.task(model), BoundaryExpanding(), progress=lambda *_: pytest.fail("trained"))
