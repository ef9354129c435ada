import pytest
import torch
from torch import nn

from amnesty.weights.transposing import transposable, transpose
from tests import tiny


def test_kernels_are_transposed_in_place_and_twice_is_the_identity():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 5, bias=False))
    before, homes = tiny.weights(model), [p.data_ptr() for p in model.parameters()]
    transpose(model)
    for k in (0, 1):
        assert torch.equal(model[k].weight, before[f"{k}.weight"].mT) and model[k].weight.is_contiguous()
    assert torch.equal(model[0].bias, before["0.bias"])
    transpose(model)
    assert tiny.same(tiny.weights(model), before) and homes == [p.data_ptr() for p in model.parameters()]


def test_a_layer_that_is_transposed_sees_transposed_images():
    layer, images = nn.Conv2d(1, 2, 3, stride=2, padding=1), torch.randn(3, 1, 8, 8)
    expected = layer(images.mT).mT
    transpose(layer)
    torch.testing.assert_close(layer(images), expected)


@pytest.mark.parametrize(
    ("layer", "can"),
    [
        (nn.Conv2d(2, 2, 3, groups=2), True),
        (nn.Conv2d(1, 1, 3, padding="same"), True),
        (nn.Conv2d(1, 1, 1), False),
        (nn.Conv2d(1, 1, (1, 3)), False),
        (nn.Conv2d(1, 1, 3, stride=(1, 2)), False),
        (nn.Conv2d(1, 1, 3, padding=(1, 0)), False),
        (nn.Conv2d(1, 1, 3, dilation=(1, 2)), False),
        (nn.Conv1d(1, 1, 3), False),
        (nn.Linear(3, 3), False),
        (nn.Conv2d(1, 1, 3).requires_grad_(False), False),
    ],
    ids=repr,
)
def test_square_kernels_of_square_layers_can_be_transposed(layer, can):
    assert transposable(layer) == (["weight"] if can else [])


def test_a_kernel_that_two_layers_share_is_transposed_once():
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    model[1].weight = model[0].weight
    before = model[0].weight.detach().clone()
    transpose(model)
    assert torch.equal(model[1].weight, before.mT)
