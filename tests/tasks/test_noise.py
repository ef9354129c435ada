import pytest
import torch
from torch.nn import functional as F

from amnesty.errors import NonFiniteError
from amnesty.tasks import frozen
from amnesty.tasks.noise import impairing_noise
from tests import tiny


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_it_is_adam_on_minus_the_cross_entropy_and_the_squares():
    teacher = frozen(tiny.conv_net())
    found = impairing_noise(teacher, 1, (5, 1, 6, 6), steps=7, lr=0.2, penalty=0.03, generator=draw())
    x = torch.randn(5, 1, 6, 6, generator=draw())
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    for k in range(1, 8):
        x.requires_grad_()
        loss = sum(F.cross_entropy(teacher(one[None]), torch.tensor([1])) for one in x)
        (g,) = torch.autograd.grad(-loss / 5 + 0.03 * (x**2).sum() / 5, x)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        x = x.detach() - 0.2 * (first / (1 - 0.9**k)) / ((second / (1 - 0.999**k)).sqrt() + 1e-8)
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_model_takes_it_for_anything_else(name):
    teacher = frozen(tiny.MODELS[name]())
    before = tiny.weights(teacher)
    found = impairing_noise(teacher, 2, (6, 1, 6, 6), penalty=1e-3, generator=draw())
    start = torch.randn(6, 1, 6, 6, generator=draw())
    entropy = [F.cross_entropy(teacher(x), torch.full((6,), 2)).item() for x in (start, found)]
    assert entropy[1] > entropy[0] + 1 and not found.requires_grad
    assert tiny.same(before, tiny.weights(teacher)) and all(p.grad is None for p in teacher.parameters())


def test_noise_that_diverges_is_refused():
    with pytest.raises(NonFiniteError, match="noise against class 0"):
        impairing_noise(frozen(tiny.mlp()), 0, (2, 1, 6, 6), lr=1e30, penalty=1e30, generator=draw())
