import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch.utils.data import Subset, TensorDataset

from amnesty.data import Examples, mislabel, plant_canaries, read_column
from amnesty.errors import DataError, SplitError


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


def numbered(start, stop, classes=5):
    """Examples whose only pixel is their number."""
    return Examples(torch.arange(start, stop).float().reshape(-1, 1, 1, 1), torch.arange(start, stop) % classes)


def pixels(dataset):
    return [int(dataset[i][0]) for i in range(len(dataset))]


class TestCanaries:
    @pytest.fixture
    def planted(self):
        return plant_canaries(numbered(0, 60), numbered(100, 140), 20, 5, seed=3)

    def test_only_canaries_have_wrong_labels(self, planted):
        labels = read_column(planted.training, "label")
        assert np.flatnonzero(labels != np.arange(60) % 5).tolist() == planted.indices.tolist()
        assert pixels(planted.training) == list(range(60))

    def test_members_and_others_make_up_the_training_data(self, planted):
        assert pixels(planted.members) == planted.indices.tolist()
        assert sorted(pixels(planted.members) + pixels(planted.others)) == list(range(60))
        assert all(int(y) == int(x) % 5 for x, y in (planted.others[i] for i in range(40)))

    def test_nonmembers_are_unseen_and_as_wrong(self, planted):
        assert set(pixels(planted.nonmembers)) <= set(range(100, 140)) and len(planted.nonmembers) == 20
        for side in (planted.members, planted.nonmembers):
            assert all(int(y) != int(x) % 5 for x, y in (side[i] for i in range(20)))

    def test_a_seed_fixes_them(self, planted):
        again, other = (plant_canaries(numbered(0, 60), numbered(100, 140), 20, 5, seed=s) for s in (3, 4))
        assert read_column(again.training, "label").tolist() == read_column(planted.training, "label").tolist()
        assert again.indices.tolist() == planted.indices.tolist() != other.indices.tolist()

    def test_any_data_set_with_labels_will_do(self):
        data = TensorDataset(torch.rand(9, 2), torch.arange(9) % 3)
        planted = plant_canaries(Subset(data, range(6)), Subset(data, range(6, 9)), 2, 3)
        assert torch.equal(planted.training[[0, 1]][0], data[[0, 1]][0])

    @pytest.mark.parametrize("count", [0, -1, 41])
    def test_refuses_more_than_there_are(self, count):
        with pytest.raises(SplitError, match=r"`count` must be from 1 to 40, found"):
            plant_canaries(numbered(0, 60), numbered(100, 140), count, 5)

    def test_refuses_one_data_set_for_both_and_labels_outside(self):
        data = numbered(0, 60)
        with pytest.raises(SplitError, match="same data set"):
            plant_canaries(data, data, 5, 5)
        with pytest.raises(DataError, match="labels in"):
            plant_canaries(data, numbered(100, 140), 30, 3)
