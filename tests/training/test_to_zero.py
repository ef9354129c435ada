import pytest
import torch
from torch import nn

from amnesty.training.to_zero import shrink_to_zero


def test_weights_come_closer_to_zero_by_the_learning_rate_of_the_step_and_stay_there():
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, -0.25, 0.05]])
    make, hook = shrink_to_zero(lambda p, steps: torch.optim.SGD(p, lr=0.5), lambda epoch: 0.4 / epoch)
    optimizer = make(model.parameters(), 2)
    hook.start_epoch(1)
    hook.after_step()
    assert model.weight[0].tolist() == pytest.approx([0.8, -0.05, 0.0]) and model.weight[0, 2] == 0
    optimizer.param_groups[0]["lr"] = 0.25
    hook.start_epoch(2)
    hook.after_step()
    assert model.weight[0].tolist() == pytest.approx([0.75, 0.0, 0.0]) and model.weight[0, 1] == 0
