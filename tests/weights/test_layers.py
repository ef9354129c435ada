import pytest
import torch
from torch import nn

from amnesty.errors import InvalidInputError, ModelError
from amnesty.weights.layers import first_kernel, kernels, last_stages, layer_parameters
from tests import tiny
from tests.methods.nets import deep_mlp, two_convs

PROBE = torch.zeros(2, 1, 6, 6)


class Backwards(nn.Module):
    """Layers that are not used in the order in which they were made, nor by their type."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.second = nn.Conv2d(4, 8, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.first = nn.Conv2d(1, 4, 3)
        self.scale = nn.Linear(6, 6)

    def forward(self, x):
        x = self.norm(self.first(self.scale(x)))
        return self.head(self.second(x).mean((2, 3)))


def test_layer_parameters_are_those_of_linear_and_convolution_layers():
    names = ["head.weight", "head.bias", "second.weight", "first.weight", "first.bias", "scale.weight", "scale.bias"]
    assert layer_parameters(Backwards()) == names
    tied = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    tied[2].weight = tied[0].weight
    assert layer_parameters(tied) == ["0.weight", "0.bias", "2.bias"]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (two_convs, ["0.weight", "3.weight"]),
        (deep_mlp, ["1.weight", "3.weight"]),
        (tiny.conv_net, ["0.weight"]),
        (Backwards, ["second.weight", "first.weight"]),
        (
            tiny.attention,
            ["embed.weight", *(f"layer.{n}.weight" for n in ("self_attn.out_proj", "linear1", "linear2"))],
        ),
    ],
)
def test_kernels_are_convolutions_or_else_linear_layers_but_the_classifier(make, found):
    assert kernels(make(), PROBE) == found


def test_a_patch_embedding_alone_is_not_what_a_network_consists_of():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 3), nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3))
    assert kernels(model, PROBE) == ["0.weight", "2.weight"]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (two_convs, "0.weight"),
        (deep_mlp, "1.weight"),
        (Backwards, "first.weight"),
        (tiny.attention, "embed.weight"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 3)), "2.weight"),
    ],
)
def test_the_first_kernel_is_the_first_in_use(make, found):
    assert first_kernel(make(), PROBE) == found


def test_a_model_that_is_one_layer():
    assert first_kernel(nn.Linear(6, 3), torch.zeros(2, 6)) == "weight"


def test_models_without_such_layers_are_refused():
    with pytest.raises(ModelError, match="no convolution and no linear layer but its classifier"):
        kernels(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), PROBE)
    with pytest.raises(ModelError, match="no layer with a weight matrix or a kernel"):
        first_kernel(nn.Sequential(nn.Flatten(), nn.LayerNorm(36)), PROBE)


@pytest.mark.parametrize(("count", "found"), [(1, "34567"), (2, "01234567")])
def test_the_last_stages_come_with_the_classifier(count, found):
    assert {name[0] for name in last_stages(two_convs(), PROBE, count)} == set(found) & set("01347")


def test_there_are_not_more_stages_than_there_are():
    with pytest.raises(InvalidInputError, match="`stages` must be at most 2, as many as this Sequential has"):
        last_stages(two_convs(), PROBE, 3)
