from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from scipy.stats import ttest_rel
from torch import nn

from amnesty.data import Examples
from amnesty.errors import InvalidInputError
from amnesty.evaluation import rank
from amnesty.evaluation.likelihood import unlearned_lira
from amnesty.methods import FineTune
from amnesty.studies.per_example import per_example, rank_rows, within_pairs
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
    against_itself = row.retrained, row.kept, row.klom, row.quality, row.by_pair
    assert against_itself == (None,) * 5 and row.klom_floor > 0
    assert abs(row.null - 0.5) < 0.1


def test_what_is_kept_and_the_time_it_took_are_told_too(pool):
    row = per_example(pool, FineTune(epochs=1, lr=0.01))
    assert row.retain_accuracy > 0.95 and row.seconds > 0 and 0 <= row.kept.value <= 1
    assert row.by_pair.shape == (8,) and np.isfinite(row.by_pair).all()


def row_of(by_pair):
    return SimpleNamespace(by_pair=None if by_pair is None else np.asarray(by_pair, dtype=float))


def test_rows_are_ranked_by_pairs_of_shadows(pool):
    rows = {"identity": per_example(pool, "original"), "noise": row_of(0.5 + np.arange(-3.5, 4) / 100)}
    found = rank_rows(rows)
    assert list(found.mean_ranks) == ["noise", "identity"] and found.blocks == 8
    assert found.groups == (("noise",), ("identity",)) and found.p_value == found.pairwise["noise", "identity"] < 0.05
    assert found.statement.startswith(
        "On 8 pairs of shadow models at level 0.95, methods that are not separated: noise;"
    )


def test_tests_and_intervals_are_those_of_student_widened():
    rows = {
        "a": row_of([0.5, 0.6, 0.55, 0.7]),
        "b": row_of([0.7, 0.65, 0.5, 0.9]),
        "c": row_of([0.9, 0.8, 0.8, 0.95]),
    }
    found = rank_rows(rows, level=0.9)
    t = ttest_rel(rows["b"].by_pair, rows["c"].by_pair).statistic / 1.6
    assert found.pairwise["b", "c"] == pytest.approx(2 * student.sf(abs(t), 3) * 2)
    ranks = np.array([1, 1, 2, 1])
    half = 1.6 * student.ppf(0.95, 3) * ranks.std(ddof=1) / 2
    assert found.mean_ranks["a"] == 1.25 and found.intervals["a"] == pytest.approx((1, 1.25 + half))
    assert found.intervals["c"] == (3, 3), "the same rank throughout"


def test_rows_that_are_equal_throughout_are_tied_and_those_apart_throughout_are_not():
    saturated = rank_rows({"a": row_of(np.ones(8)), "b": row_of(np.ones(8)), "c": row_of(np.full(8, 0.5))})
    assert saturated.groups == (("c",), ("a", "b")) and saturated.pairwise["a", "b"] == 1


def study(random, count=40, pairs=8):
    """Margins of two exact retrainings and of their shared twins, all of one law; row k is the model of pair k."""
    found = random.normal(size=(3, pairs, count))
    every, groups = np.ones((pairs, count), dtype=bool), np.arange(pairs)
    options = {"groups": groups, "other_groups": groups, "seed": 0}
    return {
        name: row_of(within_pairs(unlearned_lira(own, every, found[2], every, **options)))
        for name, own in zip("ab", found[:2], strict=True)
    }


def test_equal_methods_are_rarely_separated():
    """Pairs of shadows share their fits: taken for independent they separate equal methods three times too often."""
    random = np.random.default_rng(0)
    studies = [study(random) for _ in range(300)]
    assert np.mean([len(rank_rows(rows).groups) == 2 for rows in studies]) < 0.07
    independent = [rank({name: row.by_pair for name, row in rows.items()}) for rows in studies[:100]]
    assert np.mean([len(found.groups) == 2 for found in independent]) > 0.1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"a": row_of([0.5, 0.6])}, "two rows"),
        ({"a": row_of([0.5, 0.6]), "twins": row_of(None)}, "themselves: ..twins"),
        ({"a": row_of([0.5, 0.6]), "b": row_of([0.5, 0.6, 0.7])}, "one pool"),
        ({"a": row_of([0.5]), "b": row_of([0.6])}, "one pool"),
        ({"a": row_of([0.5, 0.6]), "b": row_of([np.nan, 0.7])}, "finite"),
    ],
)
def test_rows_that_cannot_be_ranked_are_refused(rows, said):
    with pytest.raises(InvalidInputError, match=said):
        rank_rows(rows)


def test_without_further_examples_there_is_no_accuracy_on_them(tmp_path):
    options = {"shadows": 16, "workers": 1, "tell": lambda _: None}
    few = ShadowPool(tmp_path, noise(60, 0), net, Recipe(epochs=1), range(24), **options)
    assert np.isnan(per_example(few, "original").unseen_accuracy)


def test_too_few_shadows_are_refused(tmp_path):
    options = {"shadows": 4, "workers": 1, "tell": lambda _: None}
    few = ShadowPool(tmp_path, noise(60, 0), net, Recipe(epochs=1), range(24), **options)
    with pytest.raises(InvalidInputError):
        per_example(few, "original")
