import pytest
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.data import Examples
from amnesty.errors import DataError
from amnesty.tasks import frozen
from amnesty.tasks.boundary import Pixels, nearest_wrong_labels
from tests import tiny


def by_hand(model: nn.Module, data: Examples, radius: float, mean: float, deviation: float) -> list[int]:
    """One example at a time."""
    found = []
    for image, label in zip(data.images, data.labels, strict=True):
        pixels = (image * deviation + mean)[None].requires_grad_()
        F.cross_entropy(model((pixels - mean) / deviation), label[None]).backward()
        moved = ((pixels + radius * pixels.grad.sign()).clamp(0, 1) * 255).round() / 255
        scores = model((moved - mean) / deviation)[0].tolist()
        wrong = [c for c in range(tiny.CLASSES) if c != label]
        found.append(max(wrong, key=lambda c: scores[c]))
    return found


@pytest.mark.parametrize("radius", [1e-6, 0.02, 0.3])
def test_the_nearest_wrong_class_is_never_the_true_one(radius):
    """Acceptance test 6."""
    data, teacher = tiny.blobs(60), frozen(tiny.mlp())
    found = nearest_wrong_labels(teacher, data, radius, Pixels([0.5], [0.1]), batch_size=7)
    assert found.tolist() == by_hand(teacher, data, radius, 0.5, 0.1)
    assert (found != data.labels).all()
    assert (teacher(data.images).argmax(dim=1) == data.labels).any()  # where a small step crosses no boundary


def test_channels_have_a_mean_each():
    inputs = torch.rand(2, 3, 4, 4)
    mean, deviation = Pixels([0.1, 0.2, 0.3], [0.5]).beside(inputs)
    assert mean.shape == (3, 1, 1) and (inputs * deviation + mean)[1, 2, 0, 0] == inputs[1, 2, 0, 0] * 0.5 + 0.3


def test_pixels_must_be_in_the_unit_interval():
    data = Examples(torch.rand(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64))
    Pixels().check(data, "forget")
    normalised = Examples((data.images - 0.4) / 0.2, data.labels)
    Pixels([0.4], [0.2]).check(normalised, "forget")
    with pytest.raises(DataError, match=r"Pixels of the forget set are in \[-.* give the `mean` and `std`"):
        Pixels().check(normalised, "forget")
    with pytest.raises(DataError, match="`std` has 2 values for inputs of 3 channels"):
        Pixels([0.4], [0.2, 0.2]).check(normalised, "forget")
    with pytest.raises(DataError, match=r"Pixels must be floats .* found torch.int64"):
        Pixels().check(Examples(torch.ones(4, 3, dtype=torch.int64), data.labels), "forget")
