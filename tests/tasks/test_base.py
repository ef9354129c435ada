from collections import UserDict, namedtuple

import pytest
import torch
from torch import nn

from amnesty.tasks import device_of, evaluating, to_device


class TestDeviceOf:
    def test_is_that_of_parameters_buffers_or_the_cpu(self, device):
        assert device_of(nn.Linear(1, 1).to(device)).type == device.type
        assert device_of(nn.BatchNorm1d(2, affine=False).to(device)).type == device.type
        assert device_of(nn.ReLU()) == torch.device("cpu")

    def test_knows_the_meta_device(self):
        assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"


class TestToDevice:
    Pair = namedtuple("Pair", "image label")

    @pytest.mark.parametrize("kind", [tuple, list, lambda x: TestToDevice.Pair(*x)])
    def test_keeps_the_kind_of_a_batch(self, kind):
        batch = kind([torch.zeros(2), torch.ones(2)])
        moved = to_device(batch, torch.device("meta"))
        assert type(moved) is type(batch)
        assert all(tensor.device.type == "meta" for tensor in moved)

    def test_goes_into_mappings_and_leaves_the_rest(self):
        moved = to_device(UserDict(img=[torch.zeros(1)], name="a", more={"x": torch.zeros(1)}), torch.device("meta"))
        assert moved["img"][0].device.type == moved["more"]["x"].device.type == "meta"
        assert moved["name"] == "a"


class Cached(nn.Module):
    """Makes a table when it is first called, as position embeddings do."""

    def __init__(self):
        super().__init__()
        self.layer, self.table = nn.Linear(3, 3), None

    def forward(self, x):
        if self.table is None:
            self.table = torch.arange(3, dtype=x.dtype, device=x.device)
        return self.layer(x) * self.table


class TestEvaluating:
    def test_every_module_gets_its_mode_back(self):
        model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
        model[1].eval()
        model[1][1].train()
        before = [module.training for module in model.modules()]
        with evaluating(model):
            assert not any(module.training for module in model.modules())
        assert [module.training for module in model.modules()] == before

    def test_even_after_an_error(self):
        model = nn.Dropout()
        with pytest.raises(ZeroDivisionError), evaluating(model):
            raise ZeroDivisionError
        assert model.training

    def test_no_gradient_is_kept(self):
        model = nn.Linear(2, 2)
        with evaluating(model):
            assert not model(torch.zeros(1, 2)).requires_grad

    def test_a_model_that_keeps_what_it_made_can_still_be_trained(self):
        model = Cached()
        with evaluating(model):
            model(torch.zeros(1, 3))
        model(torch.ones(1, 3)).sum().backward()
        assert model.layer.weight.grad is not None
