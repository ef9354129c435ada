import math
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amnesty.errors import InvalidInputError, ShapeError, UnknownNameError
from amnesty.weights import dataset_gradient, prune_magnitude, saliency, smallest_share, top_share
from tests import tiny
from tests.weights import zoo

scores = st.lists(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0, math.inf]), max_size=6), min_size=1, max_size=4)


def named(lists):
    return {f"p{k}": torch.tensor(values) for k, values in enumerate(lists)}


@given(scores, st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.99, 1.0]))
def test_chooses_the_first_of_the_largest(lists, share):
    flat = list(chain(*lists))
    count = math.floor(share * len(flat) + 1e-9)
    ranked = sorted(range(len(flat)), key=lambda k: (-flat[k], k))[:count]
    found = top_share(named(lists), share)
    assert torch.cat(list(found.values())).nonzero()[:, 0].tolist() == sorted(ranked)


@given(scores, st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 1.0]))
def test_chooses_the_first_of_the_smallest(lists, share):
    flat = list(chain(*lists))
    count = math.floor(share * len(flat) + 1e-9)
    ranked = sorted(range(len(flat)), key=lambda k: (flat[k], k))[:count]
    assert smallest_share(torch.tensor(flat), share).nonzero()[:, 0].tolist() == sorted(ranked)


@pytest.mark.parametrize("share", [0.29, np.float64(0.29), 0.57])
def test_the_number_is_that_of_the_share_as_written(share):
    assert int(100 * share) != round(100 * share)
    assert top_share({"p": torch.arange(100.0)}, share)["p"].sum() == round(100 * share)


def test_shapes_devices_and_types():
    given_ = {"a": torch.rand(2, 3, 1), "b": torch.rand(()), "c": torch.rand(4, dtype=torch.float64)}
    found = top_share(given_, 0.5)
    assert all(found[n].shape == s.shape and found[n].dtype == torch.bool for n, s in given_.items())
    assert sum(int(m.sum()) for m in found.values()) == 5


def test_neighbours_in_double_precision_are_told_apart():
    mask = top_share({"a": torch.tensor([1.0]), "b": torch.tensor([1 + 1e-12], dtype=torch.float64)}, 0.5)
    assert mask["b"].all() and not mask["a"].any()


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_refuses_shares(share):
    for call in (lambda: top_share({"p": torch.ones(3)}, share), lambda: smallest_share(torch.ones(3), share)):
        with pytest.raises(InvalidInputError, match=r"`share` must be in \[0, 1\]"):
            call()


def test_refuses_scores():
    with pytest.raises(InvalidInputError, match="no score"):
        top_share({}, 0.5)
    with pytest.raises(InvalidInputError, match="NaN"):
        top_share({"p": torch.tensor([1.0, math.nan])}, 0.5)
    with pytest.raises(ShapeError, match=r"'p'.*torch\.int64"):
        top_share({"p": torch.arange(3)}, 0.5)


class TestSaliency:
    def test_is_the_top_of_the_absolute_sum(self):
        model, data = tiny.conv_net(), zoo.examples(20)
        with zoo.untouched(model):
            masks = saliency(model, data, 0.3, batch_size=7)
        steep = {name: g.abs() for name, g in dataset_gradient(model, data, batch_size=7).items()}
        chosen = torch.cat([steep[n][m] for n, m in masks.items()])
        left = torch.cat([steep[n][~m] for n, m in masks.items()])
        assert len(chosen) == math.floor(0.3 * (len(chosen) + len(left))) and chosen.min() >= left.max()

    def test_fits_the_trainable_parameters(self):
        model = tiny.mlp()
        model[1].weight.requires_grad_(False)
        assert saliency(model, zoo.examples(4), 0.5).keys() == {"1.bias", "3.weight", "3.bias"}

    @pytest.mark.parametrize(("share", "all_of_them"), [(0, False), (1, True)])
    def test_none_and_all(self, share, all_of_them):
        masks = saliency(tiny.mlp(), zoo.examples(4), share)
        assert all(mask.all() if all_of_them else not mask.any() for mask in masks.values())


class TestPruneMagnitude:
    def test_one_percent_survives(self):
        model = tiny.conv_net()
        with zoo.untouched(model):
            masks = prune_magnitude(model, 0.99, ["0.weight", "5.weight", "5.bias"])
        sizes = {name: p.detach().abs() for name, p in model.named_parameters() if name in masks}
        total = sum(p.numel() for p in sizes.values())
        kept = torch.cat([sizes[n][m] for n, m in masks.items()])
        assert len(masks) == 3 and len(kept) == total - math.floor(0.99 * total)
        assert kept.min() >= torch.cat([sizes[n][~m] for n, m in masks.items()]).max()

    def test_all_trainable_ones_by_default(self):
        model = tiny.mlp()
        model[1].weight.requires_grad_(False)
        assert prune_magnitude(model, 0.5).keys() == {"1.bias", "3.weight", "3.bias"}

    def test_refuses_unknown_names(self):
        with pytest.raises(UnknownNameError, match=r"3\.weight"):
            prune_magnitude(tiny.mlp(), 0.5, ["3.weigth"])
