import numpy as np
import pytest
import torch
from torch import nn

from amnesty.data import Examples
from amnesty.errors import InvalidInputError
from amnesty.methods import FineTune
from amnesty.studies.per_example import per_example, rank_rows
from amnesty.studies.shadows import ShadowPool
from amnesty.training import Recipe

RECIPE = Recipe(lr=0.2, epochs=40, batch_size=40, momentum=0.9, weight_decay=0.0)


def noise(count, seed):
    """Labels that can only be known by heart."""
    draw = torch.Generator().manual_seed(seed)
    return Examples(torch.randn(count, 20, generator=draw), torch.randint(0, 2, (count,), generator=draw))


def net():
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    options = {"shadows": 16, "workers": 1, "tell": lambda _: None, "evaluated": noise(30, 1)}
    return ShadowPool(folder, noise(80, 0), net, RECIPE, range(30), **options)


def test_an_original_that_knows_by_heart_is_told_from_one_that_never_met(pool):
    row = per_example(pool, "original")
    assert row.never.low > 0.8 and row.lira.low > 0.8 and row.retrained.low > 0.8
    assert row.forget_accuracy > 0.95 and row.unseen_accuracy < 0.7
    assert row.exposed > 0.2 and row.klom > row.klom_floor
    assert row.quality <= 1, "8 models a side show no epsilon"
    assert row.forgotten.mean > row.never_met.mean and row.forgotten.mean > row.twin.mean
    assert np.isnan(row.tpr), "16 models do not know what 1 % is"


def test_a_retrained_model_is_not(pool):
    row = per_example(pool, "retrained")
    assert row.lira.low < 0.5 < row.lira.high and row.never.low < 0.5 < row.never.high
    assert row.retrained.value == 0.5 == row.kept.value and row.klom == 0 and row.quality == 1
    assert abs(row.null - 0.5) < 0.1


def test_what_is_kept_and_the_time_it_took_are_told_too(pool):
    row = per_example(pool, FineTune(epochs=1, lr=0.01))
    assert row.retain_accuracy > 0.95 and row.seconds > 0 and 0 <= row.kept.value <= 1
    assert row.by_pair.shape == (8,) and np.isfinite(row.by_pair).all()


def test_rows_are_ranked_by_pairs_of_shadows(pool):
    rows = {"identity": per_example(pool, "original"), "retrained": per_example(pool, "retrained")}
    found = rank_rows(rows)
    assert list(found.mean_ranks) == ["retrained", "identity"] and found.blocks == 8
    assert found.groups == (("retrained",), ("identity",))


def test_without_further_examples_there_is_no_accuracy_on_them(tmp_path):
    options = {"shadows": 16, "workers": 1, "tell": lambda _: None}
    few = ShadowPool(tmp_path, noise(60, 0), net, Recipe(epochs=1), range(24), **options)
    assert np.isnan(per_example(few, "original").unseen_accuracy)


def test_too_few_shadows_are_refused(tmp_path):
    options = {"shadows": 4, "workers": 1, "tell": lambda _: None}
    few = ShadowPool(tmp_path, noise(60, 0), net, Recipe(epochs=1), range(24), **options)
    with pytest.raises(InvalidInputError):
        per_example(few, "original")
