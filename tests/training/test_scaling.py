import pytest
import torch
from torch import nn

from amnesty.errors import UnknownNameError
from amnesty.training.scaling import scale_gradients


def test_gradients_are_scaled_where_there_are_any():
    model = nn.Linear(2, 2)
    hook = scale_gradients(model, {"weight": torch.tensor([[1.0, 0.5], [0.0, 2.0]])})
    hook.before_step()
    model.weight.grad, model.bias.grad = torch.full((2, 2), 4.0), torch.ones(2)
    hook.before_step()
    assert model.weight.grad.tolist() == [[4.0, 2.0], [0.0, 8.0]] and model.bias.grad.tolist() == [1.0, 1.0]


def test_names_must_be_known():
    with pytest.raises(UnknownNameError, match="Did you mean 'weight'"):
        scale_gradients(nn.Linear(1, 1), {"weigt": torch.ones(1, 1)})
