import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Subset

import amnesty
from amnesty.data import Examples
from amnesty.errors import InvalidInputError, NonFiniteError
from amnesty.methods.influence import Influence
from amnesty.tasks import Classification
from tests import tiny


def linear():
    return tiny._seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, tiny.CLASSES)))


def flat(model):
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def step_of(task, method, seed=0):
    outcome = amnesty.unlearn(task, method, seed=seed)
    return flat(outcome.model) - flat(task.model)


def gradients(model, source):
    """One row an example, shape [n, d], in float64."""
    model = copy.deepcopy(model).double().eval()
    rows = []
    for image, label in source:
        loss = F.cross_entropy(model(image[None].double()), torch.as_tensor(label)[None])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows)


def direction(task):
    """What the retained examples would pull, were the others not there: v."""
    forget, retain = (gradients(task.model, task.parts[part]) for part in ("forget", "retain"))
    n = len(forget) + len(retain)
    return forget.sum(0) / n - len(forget) / (n * len(retain)) * retain.sum(0)


def published(rows, vector):
    """The recursion of the published code, on flat vectors: ``rows`` are the gradients of the retained examples."""
    k, o = vector.clone(), rows[0].clone()
    for g in rows[1:]:
        overlap = o @ g
        k -= (k @ g) / (len(rows) + overlap) * o
        o -= overlap / (len(rows) + overlap) * o
    return k


def parallel(a, b):
    return float(F.cosine_similarity(a, b, dim=0).abs())


@pytest.mark.parametrize("model", [linear, tiny.conv_net])
@pytest.mark.parametrize("damping", [1.0, 0.01])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_it_is_the_dense_solution(model, damping, scale):
    """Acceptance test 3."""
    task = tiny.task(model(), count=60)
    rows = gradients(task.model, task.parts["retain"])
    hessian = rows.T @ rows / len(rows) + damping * torch.eye(rows.shape[1], dtype=torch.float64)
    expected = scale * torch.linalg.solve(hessian, direction(task))
    found = step_of(task, Influence(scale=scale, damping=damping))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


class TestTheCorrection:
    """Acceptance test 3: what the inverse adds to v."""

    def test_is_not_parallel_to_one_gradient(self):
        task = tiny.task(linear(), count=60)
        rows = gradients(task.model, task.parts["retain"])
        correction = step_of(task, Influence(scale=1e3)) / 1e3 - direction(task)
        assert max(parallel(correction, g) for g in rows) < 0.9

    def test_of_the_published_code_is(self):
        task = tiny.task(linear(), count=60)
        rows, v = gradients(task.model, task.parts["retain"]), direction(task)
        found = step_of(task, Influence(scale=1e3, mode="reference")) / 1e3
        torch.testing.assert_close(found, published(rows, v), rtol=1e-3, atol=1e-6)
        assert parallel(found - v, rows[0]) > 0.999


@pytest.mark.parametrize("count", [1, 5, 17])
@pytest.mark.parametrize("chunk", [1, 4, 32])
def test_the_published_recursion_takes_the_first_examples(count, chunk):
    task = tiny.task(linear(), count=60)
    rows = gradients(task.model, task.parts["retain"])[:count]
    found = step_of(task, Influence(scale=1e3, mode="reference", samples=count, chunk=chunk)) / 1e3
    torch.testing.assert_close(found, published(rows, direction(task)), rtol=1e-3, atol=1e-6)


def test_the_size_of_batches_and_chunks_does_not_matter():
    task = tiny.task(linear(), count=60)
    first, *others = (
        step_of(task, Influence(scale=100.0, damping=0.1, batch_size=size, chunk=chunk))
        for size, chunk in ((256, 32), (7, 32), (256, 1), (1, 5))
    )
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-3, atol=1e-4 * float(first.abs().max()))


def test_fewer_samples_are_drawn_by_the_seed():
    task = tiny.task(linear())
    first, again, other = (step_of(task, Influence(damping=0.01, samples=8), seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def fitted(data, chosen):
    """The minimum of the mean cross-entropy plus 0.005 |theta|^2."""
    model = linear()
    images, labels = data[list(chosen)]
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(model(images), labels)
        value = value + 0.005 * sum(p.square().sum() for p in model.parameters())
        value.backward()
        return value

    optimizer.step(loss)
    return model


def test_it_leads_to_where_the_model_without_the_forget_set_is():
    random = torch.Generator().manual_seed(0)
    images = torch.randn(240, 1, 6, 6, generator=random)
    chances = (images.flatten(1) @ torch.randn(36, 3, generator=random) / 4).softmax(1)
    data = Examples(images, torch.multinomial(chances, 1, generator=random)[:, 0])  # so that Fisher is the Hessian
    with_it, without = fitted(data, range(240)), fitted(data, range(24, 240))
    task = Classification(with_it, forget=Subset(data, range(24)), retain=Subset(data, range(24, 240)))
    wanted = flat(without) - flat(with_it)
    found = step_of(task, Influence(damping=0.01))
    assert parallel(found, wanted) > 0.9 > parallel(direction(task), wanted)
    assert found @ wanted > 0 and 1 < found.norm() / wanted.norm() < 3


def test_the_history_says_how_far_it_went():
    task = tiny.task(linear())
    outcome = amnesty.unlearn(task, Influence())
    length = (flat(outcome.model) - flat(task.model)).norm()
    assert outcome.history[-1]["relative_length"] == pytest.approx(float(length / flat(task.model).norm()), rel=1e-3)


def test_a_step_without_an_end_is_refused():
    task = tiny.task(linear())
    with pytest.raises(NonFiniteError, match="weights have not moved") as error:
        amnesty.unlearn(task, Influence(scale=1e300))
    assert torch.equal(flat(error.value.model), flat(task.model))


def test_faults():
    with pytest.raises(InvalidInputError) as error:
        Influence(scale=0, damping=-1, samples=0, mode="dense", chunk=0)
    for setting in ("scale", "damping", "samples", "mode", "chunk"):
        assert f"`{setting}` must be" in str(error.value)
