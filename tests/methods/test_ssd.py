import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Subset

import amnesty
from amnesty.data import Batches, Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods.ssd import SSD
from amnesty.training import Loop
from tests import tiny


def norms(model, batch):
    return model(batch[0]).square().sum(1).mean()


def entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def importance(model, source, labels, size=1):
    """The mean over batches (of one example, unless told) of squared gradients; of absolute ones without labels."""
    model.eval()
    loss, total, batches = norms if labels == "none" else entropy, {}, Batches(source, size)
    for batch in batches.iterate():
        gradients = torch.autograd.grad(loss(model, batch), list(model.parameters()))
        for (name, _), g in zip(model.named_parameters(), gradients, strict=True):
            found = g.double().abs() if labels == "none" else g.double().square()
            total[name] = total.get(name, 0) + found / len(batches)
    return total


def by_hand(task, method):
    model, size = task.model, method.per_batch or 1
    forget, retain = (importance(model, task.parts[part], method.labels, size) for part in ("forget", "retain"))
    counts = [len(Batches(task.parts[part], size)) for part in ("forget", "retain")]
    expected = {}
    for name, p in model.named_parameters():
        both = (counts[0] * forget[name] + counts[1] * retain[name]) / sum(counts)
        reference = both if method.reference == "all" else retain[name]
        beta = (method.dampening * reference / forget[name]).nan_to_num(nan=1.0).clamp(max=1)
        expected[name] = torch.where(forget[name] > method.selection * reference, beta, 1.0).float() * p.detach()
    return expected


def assert_same(outcome, expected):
    for name, p in outcome.model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name], rtol=1e-4, atol=1e-7)


def edited(outcome, task):
    """How many weights changed."""
    before = dict(task.model.named_parameters())
    return sum(int((p != before[name]).sum()) for name, p in outcome.model.named_parameters())


@pytest.mark.parametrize("model", ["conv", "mlp"])
@pytest.mark.parametrize(("reference", "dampening"), [("all", 1.0), ("retain", 0.3), ("retain", 1.7)])
@pytest.mark.parametrize(("labels", "per_batch"), [("true", None), ("none", None), ("true", 5), ("none", 5)])
def test_it_is_the_formula(model, reference, labels, per_batch, dampening):
    task = tiny.task(tiny.MODELS[model]())
    method = SSD(selection=1.4, dampening=dampening, reference=reference, labels=labels, per_batch=per_batch)
    outcome = amnesty.unlearn(task, method)
    assert_same(outcome, by_hand(task, method))
    count = sum(p.numel() for p in task.model.parameters())
    assert 0.01 * count < edited(outcome, task) < 0.9 * count
    assert outcome.history[-1]["changed"] == pytest.approx(edited(outcome, task) / count)


@pytest.mark.parametrize("selection", [10.0, 10.5, 50.0])
class TestWhereNothingCanBeSelected:
    """Acceptance test 4; n / n_f is 10."""

    def test_with_exact_importances_nothing_changes(self, selection):
        task = tiny.task(tiny.mlp())
        method = SSD(selection=1.0001 * selection, reference="all")
        change = method.edit(task, Loop(task.model, task.sources))
        assert all((delta == 0).all() for delta in change.values())

    def test_it_is_refused_before_anything_happens(self, selection):
        steps = []
        says = (
            rf"SSD\(selection={selection:g}, reference='all'\) can select nothing.*below 10, or `reference='retain'`"
        )
        with pytest.raises(InvalidInputError, match=says):
            amnesty.unlearn(
                tiny.task(), SSD(selection=selection, reference="all"), progress=lambda *_: steps.append(1)
            )
        assert not steps

    def test_the_retain_set_alone_sets_no_limit(self, selection):
        SSD(selection=selection).check(tiny.task())


def test_just_below_the_limit_what_the_retain_set_ignores_is_selected():
    images = tiny.blobs().images.clone()
    images[:, 0, 0, 0] = 0.0
    images[:5, 0, 0, 0] = 1.0  # a pixel that only these have
    data, net = Examples(images, tiny.blobs().labels), nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    task = amnesty.Classification(net, forget=Subset(data, range(5)), retain=Subset(data, range(5, 50)))
    outcome = amnesty.unlearn(task, SSD(selection=9.9, reference="all"))
    before, after = task.model[1].weight, outcome.model[1].weight
    torch.testing.assert_close(after[:, 0], before[:, 0] / 10)  # I_all = I_f / 10
    assert edited(outcome, task) == 3


@pytest.mark.parametrize("reference", ["all", "retain"])
def test_the_size_of_chunks_and_the_order_do_not_matter(reference):
    """Acceptance test 4."""
    task = tiny.task()
    first = amnesty.unlearn(task, SSD(selection=1.4, reference=reference))
    parts = {
        name: Subset(source, torch.randperm(len(source)).tolist())
        for name, source in task.parts.items()
        if name != "holdout"
    }
    for chunk, given in ((1, task.parts), (7, task.parts), (32, parts)):
        other = amnesty.Classification(task.model, forget=given["forget"], retain=given["retain"])
        outcome = amnesty.unlearn(other, SSD(selection=1.4, reference=reference, chunk=chunk))
        assert_same(outcome, {name: p.detach() for name, p in first.model.named_parameters()})


def test_means_of_batches_do_depend_on_their_size():
    task = tiny.task()
    found = [tiny.weights(amnesty.unlearn(task, SSD(selection=1.4, per_batch=size)).model) for size in (4, 12)]
    assert not tiny.same(*found)


@pytest.mark.parametrize("dampening", [0.5, 1.0, 100.0])
def test_no_weight_grows_or_changes_its_sign(dampening):
    """Acceptance test 4: beta is at most 1."""
    task = tiny.task()
    outcome = amnesty.unlearn(task, SSD(selection=1.1, dampening=dampening))
    for p, q in zip(task.model.parameters(), outcome.model.parameters(), strict=True):
        assert (q.abs() <= p.abs()).all() and (p * q >= 0).all()


def test_buffers_stay():
    task = tiny.task()
    outcome = amnesty.unlearn(task, SSD(selection=1.4))
    for mine, its in zip(task.model.buffers(), outcome.model.buffers(), strict=True):
        assert torch.equal(mine, its)


def test_only_salient_weights_change():
    task = tiny.task(tiny.mlp())
    whole, half = (edited(amnesty.unlearn(task, SSD(selection=1.4, saliency=share)), task) for share in (None, 0.3))
    assert 0 < half < whole and half <= int(0.3 * 643)
    assert edited(amnesty.unlearn(task, SSD(selection=1.4, saliency=0.0)), task) == 0


def test_published_settings_cannot_forget_a_tenth():
    assert (SSD.paper().selection, SSD.paper().dampening, SSD.paper().reference) == (10.0, 1.0, "all")
    with pytest.raises(InvalidInputError, match="below 10, or"):
        amnesty.unlearn(tiny.task(count=2560), SSD.paper())  # 2 of 20 batches


def test_by_default_a_class_is_forgotten():
    data = tiny.blobs(240)
    model = amnesty.train(tiny.conv_net(), data, amnesty.Recipe(epochs=8, batch_size=32))
    parts = split(data, Classes([1])).parts(data)
    task = amnesty.Classification(model, forget=parts["forget"], retain=parts["retain"])
    scores = amnesty.evaluate(task, amnesty.unlearn(task, SSD()).model)
    assert amnesty.evaluate(task, model)["forget_accuracy"] > 0.95
    assert scores["forget_accuracy"] < 0.3


def test_faults():
    with pytest.raises(InvalidInputError) as error:
        SSD(selection=0, dampening=-1, reference="forget", labels="sampled", per_batch=0, chunk=0)
    for setting in ("selection", "dampening", "reference", "labels", "per_batch", "chunk"):
        assert f"`{setting}` must be" in str(error.value)
