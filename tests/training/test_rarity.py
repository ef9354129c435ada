import pytest
import torch

from amnesty.training.rarity import rarity


def test_every_class_that_there_is_counts_alike():
    labels = torch.tensor([0, 0, 0, 2, 2, 4])
    weights = rarity(labels, 5)
    counts = torch.bincount(labels, minlength=5)
    assert (weights * counts).tolist() == pytest.approx([1.2, 0, 1.2, 0, 1.2])


@pytest.mark.parametrize("classes", [3, 7])
def test_absent_classes_have_weight_zero_wherever_they_are(classes):
    weights = rarity(torch.tensor([1, 1, 2]), classes, 0.1)
    assert weights.shape == (classes,) and weights.isfinite().all()
    assert (weights > 0).tolist() == [c in (1, 2) for c in range(classes)]
    assert (weights[1] / weights[2]).item() == pytest.approx(2**-0.1)


def test_power_0_counts_every_example_alike():
    assert rarity(torch.tensor([0, 0, 1]), 3, 0).tolist() == [1, 1, 0]
