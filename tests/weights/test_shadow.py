import pytest
import torch
from torch import nn

from amnesty.errors import ModelError
from amnesty.weights.shadow import linear_classifier, shadow_class
from tests import tiny

PROBE = tiny.blobs(4).images


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36, 3)

    def forward(self, x):
        return 2 * self.head(x.flatten(1))


class Shaped(Scaled):
    def forward(self, x):
        return self.head(x.flatten(1)).view(-1, 3)


class Normalised(Scaled):
    def forward(self, x):
        return self.head(x.flatten(1)).log_softmax(dim=1)


class Selecting(Scaled):
    def forward(self, x):
        return self.head(x.flatten(1))[:, :3]


class ByName(Scaled):
    def forward(self, x):
        return self.head(input=x.flatten(1))


@pytest.mark.parametrize(("name", "head"), [("conv", "5"), ("mlp", "3"), ("attention", "head")])
def test_a_class_comes_and_goes(name, head):
    model = tiny.MODELS[name]().eval()
    before, said = tiny.weights(model), model(PROBE)
    assert linear_classifier(model, PROBE) == head
    with shadow_class(model, head, torch.Generator().manual_seed(1)) as shadow:
        wider = model(PROBE)
        assert wider.shape == (4, 4) and torch.equal(wider[:, :3], said)
        wider[:, 3].sum().backward()
        new = {id(p) for p in model.parameters()} - {id(p) for p in tiny.MODELS[name]().parameters()}
        assert {id(p) for p in shadow.parameters()} <= new and all(p.grad is not None for p in shadow.parameters())
        assert 0 < shadow.weight.abs().max() <= shadow.in_features**-0.5
    assert torch.equal(model(PROBE), said) and tiny.same(before, tiny.weights(model))
    layer = model.get_submodule(head)
    assert not layer._forward_hooks and not hasattr(layer, "shadow")


def test_it_goes_also_when_something_fails():
    model = tiny.mlp()
    with pytest.raises(ZeroDivisionError), shadow_class(model, "3", torch.Generator()):
        raise ZeroDivisionError
    assert model(PROBE).shape == (4, 3) and len(list(model.parameters())) == 4


def test_it_has_the_seeds_weights_and_no_bias_where_there_is_none():
    rows = []
    for bias in (True, False):
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3, bias=bias, dtype=torch.float64))
        with shadow_class(model, "1", torch.Generator().manual_seed(5)) as shadow:
            assert (shadow.bias is not None) == bias and shadow.weight.dtype == torch.float64
            rows.append(shadow.weight.clone())
    assert torch.equal(*rows)


@pytest.mark.parametrize("model", [ByName(), Scaled()])
def test_what_is_called_by_name_or_scaled_will_do(model):
    assert linear_classifier(model, PROBE) == "head"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Normalised(), "not the outputs of the classifier 'head' one by one"),
        (Selecting(), r"'head' one by one: with an output more the model returns \[4, 3\]"),
        (Shaped(), r"cannot have one class more .* 'head'|'head' one by one"),
        (nn.Sequential(nn.Conv2d(1, 3, 6), nn.Flatten()), "the classifier '0' of this model is a Conv2d"),
    ],
)
def test_other_classifiers_are_refused(model, reason):
    with pytest.raises(ModelError, match=reason):
        linear_classifier(model, PROBE)
    assert model(PROBE).shape == (4, 3)
