import pytest
import torch

from amnesty.errors import ModelError
from amnesty.training import Loop
from amnesty.training.trimming import trim_stages, trimmable
from tests import tiny


def test_the_last_stages_are_those_that_are_used_last_without_norms():
    task = tiny.task()
    assert trimmable(task.model, task.probe, 1) == ["5.weight", "5.bias"]
    assert sorted(trimmable(task.model, task.probe, 9)) == ["0.weight", "5.bias", "5.weight"]
    task.model[5].bias.requires_grad_(False)
    assert trimmable(task.model, task.probe, 1) == ["5.weight"]
    task.model[5].weight.requires_grad_(False)
    with pytest.raises(ModelError, match="Nothing is trainable in the last 1 stages"):
        trimmable(task.model, task.probe, 1)


def test_trimming_leaves_a_record_and_honours_masks():
    task = tiny.task(tiny.mlp())
    mask = torch.zeros(3, 16, dtype=torch.bool)
    mask[0] = True
    loop = Loop(tiny.mlp(), task.sources, 4, masks={"3.weight": mask})
    names = trimmable(loop.model, task.probe, 1)
    trim_stages(loop, names, 1.0)
    moved = loop.model[3].weight != tiny.mlp()[3].weight
    assert torch.equal(moved, mask) and torch.equal(loop.model[1].weight, tiny.mlp()[1].weight)
    (record,) = loop.history
    assert record["trimmed"] == record["trimmed/3.weight"] == 1.0
