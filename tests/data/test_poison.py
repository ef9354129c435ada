import pytest
import torch
from scipy.stats import chisquare

from amnesty.data import mislabel
from amnesty.errors import DataError


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_every_label_is_wrong_and_a_class(classes):
    labels = torch.arange(1000) % classes
    wrong = mislabel(labels, classes)
    assert (wrong != labels).all()
    assert wrong.min() >= 0
    assert wrong.max() < classes


def test_wrong_labels_are_uniform_over_the_others():
    for true in range(4):
        wrong = mislabel(torch.full((4000,), true), classes=4, seed=true)
        counts = wrong.bincount(minlength=4).tolist()
        assert counts.pop(true) == 0
        assert chisquare(counts).pvalue > 1e-3


def test_follows_the_seed_and_leaves_all_else_alone():
    labels, before = torch.arange(50) % 10, torch.get_rng_state()
    assert mislabel(labels, 10, seed=1).equal(mislabel(labels, 10, seed=1))
    assert not mislabel(labels, 10, seed=1).equal(mislabel(labels, 10, seed=2))
    assert labels.equal(torch.arange(50) % 10)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(("labels", "classes"), [([0], 1), ([0, 3], 3), ([-1, 0], 3)])
def test_refuses_labels_outside_the_classes(labels, classes):
    with pytest.raises(DataError, match=rf"at least 2 classes and labels in \[0, {classes}\)"):
        mislabel(torch.tensor(labels), classes)
