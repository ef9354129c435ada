import copy

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import amnesty
from amnesty.data import Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods.fisher_forgetting import FisherForgetting
from amnesty.seeds import generator
from tests import tiny

CLASS = 1
CLASSIFIER = {"conv": "5.", "mlp": "3."}


def fisher(model, source):
    """The mean over examples of the expected squares of the score, in float64, one class at a time."""
    model = copy.deepcopy(model).double().eval()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for image, _ in source:
        chances = model(image[None].double()).softmax(1)[0]
        for y in range(len(chances)):
            gradients = torch.autograd.grad(chances[y].log(), list(model.parameters()), retain_graph=True)
            for name, g in zip(total, gradients, strict=True):
                total[name] += chances[y].detach() * g.square() / len(source)
    return total


def by_hand(task, model, method, seed=0, gone=()):
    expected, scores = {}, fisher(task.model, task.parts["retain"])
    for name, p in task.model.named_parameters():
        last = name.startswith(CLASSIFIER[model])
        mu = p.detach().clone()
        v = 1 / (scores[name] + 1e-8).sqrt() if method.exponent == 0.25 else 1 / (scores[name] + 1e-8)
        v = method.alpha * torch.minimum(v, torch.tensor(100.0 if last else 1000.0))
        if p.dim() > 1:
            v = v.mean(1, keepdim=True).expand(p.shape).clone()
        for row in gone if last else ():
            mu[row], v[row] = 0.0, 1e-4
        v = v * 10 if last or p.dim() == 1 else v
        xi = torch.randn(p.shape, generator=generator(seed, "Fisher noise", name))
        expected[name] = mu + v.sqrt().float() * xi
    return expected


def assert_same(outcome, expected):
    for name, p in outcome.model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name], rtol=1e-4, atol=1e-6)


def class_task(model=None, forget=None):
    data = tiny.blobs(60)
    parts = split(data, Classes([CLASS])).parts(data)
    return amnesty.Classification(model or tiny.mlp(), forget=forget or parts["forget"], retain=parts["retain"])


@pytest.mark.parametrize("model", CLASSIFIER)
@pytest.mark.parametrize("exponent", [0.5, 0.25])
def test_it_is_the_formula_with_exact_fisher_information(model, exponent):
    task = tiny.task(tiny.MODELS[model](), count=40)
    method = FisherForgetting(alpha=1e-5, exponent=exponent)
    assert_same(amnesty.unlearn(task, method, seed=3), by_hand(task, model, method, seed=3))


def test_the_size_of_chunks_does_not_matter():
    """Acceptance test 5."""
    task = tiny.task(count=40)
    first, *others = (amnesty.unlearn(task, FisherForgetting(chunk=chunk)) for chunk in (1, 7, 32))
    for other in others:
        assert_same(other, {name: p.detach() for name, p in first.model.named_parameters()})


class TestAForgottenClass:
    @pytest.mark.parametrize("model", CLASSIFIER)
    def test_starts_again_in_the_classifier(self, model):
        task, method = class_task(tiny.MODELS[model]()), FisherForgetting()
        assert_same(amnesty.unlearn(task, method), by_hand(task, model, method, gone=(CLASS,)))

    def test_has_a_row_around_zero(self):
        """Acceptance test 5."""
        net = tiny.mlp()
        with torch.no_grad():
            net[3].weight.add_(5.0)
        task = class_task(net)
        weight = amnesty.unlearn(task, FisherForgetting(alpha=1e-9)).model[3].weight
        assert weight[CLASS].mean().abs() < 0.03 and 0.01 < weight[CLASS].std() < 0.1
        others = [row for row in range(tiny.CLASSES) if row != CLASS]
        torch.testing.assert_close(weight[others], net[3].weight[others], rtol=1e-3, atol=0)

    @pytest.mark.parametrize("labels", ["expected", "sampled"])
    def test_is_known_by_its_labels_alone(self, labels):
        task = class_task()
        images, numbers = task.parts["forget"][list(range(len(task.parts["forget"])))]
        other = class_task(forget=Examples(torch.randn_like(images), numbers))
        found = [tiny.weights(amnesty.unlearn(t, FisherForgetting(labels=labels)).model) for t in (task, other)]
        assert tiny.same(*found)

    def test_is_reset_only_if_nothing_of_it_is_kept(self):
        net = tiny.mlp()
        with torch.no_grad():
            net[3].weight.add_(5.0)
        weight = amnesty.unlearn(tiny.task(net), FisherForgetting(alpha=1e-9)).model[3].weight
        torch.testing.assert_close(weight, net[3].weight, rtol=1e-3, atol=0)


class Watched(Dataset):
    def __init__(self, data):
        self.data, self.reads = data, 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        self.reads += 1
        return self.data[i]


def test_the_forget_set_is_not_read():
    whole = class_task()
    forget, retain = Watched(whole.parts["forget"]), Watched(whole.parts["retain"])
    task = amnesty.Classification(tiny.mlp(), forget=forget, retain=retain)
    task.check()
    forget.reads = retain.reads = 0
    amnesty.unlearn(task, FisherForgetting())
    assert forget.reads == 0 and retain.reads == len(retain)


def test_noise_grows_with_the_root_of_its_strength():
    first, second = (
        amnesty.unlearn(tiny.task(count=40), FisherForgetting(alpha=alpha)).history[-1]["length"]
        for alpha in (1e-8, 1e-6)
    )
    assert second == pytest.approx(10 * first, rel=1e-3)


def test_norms_can_be_spared():
    task = tiny.task(count=40)
    whole, spared = (amnesty.unlearn(task, FisherForgetting(norms=norms), seed=1).model for norms in (True, False))
    assert torch.equal(spared[1].weight, task.model[1].weight) and torch.equal(spared[1].bias, task.model[1].bias)
    assert not torch.equal(whole[1].weight, task.model[1].weight)
    assert torch.equal(spared[0].weight, whole[0].weight)  # the noise of one tensor does not depend on another's


def test_sampled_labels_estimate_the_expected_ones():
    data = tiny.blobs(1500)
    parts = split(data, amnesty.data.Fraction(0.1)).parts(data)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    task = amnesty.Classification(net, forget=parts["forget"], retain=parts["retain"])
    changes = []
    for labels in ("expected", "sampled"):
        model = amnesty.unlearn(task, FisherForgetting(labels=labels)).model
        changes.append(
            torch.cat([(q - p).flatten() for p, q in zip(net.parameters(), model.parameters(), strict=True)])
        )
    torch.testing.assert_close(changes[1] / changes[0], torch.ones(111), rtol=0.1, atol=0)
    assert not torch.equal(*changes)


def test_frozen_layers_get_no_noise():
    net = tiny.conv_net()
    net[5].requires_grad_(False)
    task = class_task(net)
    model = amnesty.unlearn(task, FisherForgetting()).model
    assert torch.equal(model[5].weight, net[5].weight) and not torch.equal(model[0].weight, net[0].weight)


def test_it_needs_something_to_keep():
    task = amnesty.Classification(tiny.mlp(), forget=tiny.blobs(9))
    with pytest.raises(InvalidInputError, match="FisherForgetting needs the retain set"):
        amnesty.unlearn(task, FisherForgetting())


def test_faults():
    with pytest.raises(InvalidInputError) as error:
        FisherForgetting(alpha=-1, labels="true", exponent=-0.5, chunk=0)
    for setting in ("alpha", "labels", "exponent", "chunk"):
        assert f"`{setting}` must be" in str(error.value)
