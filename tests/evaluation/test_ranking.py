import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare

from amnesty.errors import InvalidInputError
from amnesty.evaluation.pairs import sign_flip_p
from amnesty.evaluation.ranking import holm, nemenyi, rank

NAMES = "abcdef"
tables = st.tuples(st.integers(2, 5), st.integers(1, 7)).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, 4).map(float), min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0]
    ).map(lambda rows: dict(zip(NAMES, rows, strict=False)))
)


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(means, blocks, seed=0, deviation=1.0):
    noise = rng(seed).normal(0, deviation, (len(means), blocks))
    return {name: mean + row for name, mean, row in zip(NAMES, means, noise, strict=False)}


def mean_rank(table, method):
    """One plus the number of better methods plus half that of ties, by direct loops."""
    ranks = []
    for block, own in enumerate(table[method]):
        others = [row[block] for name, row in table.items() if name != method]
        ranks.append(1 + sum(x < own for x in others) + sum(x == own for x in others) / 2)
    return np.mean(ranks)


class TestMeanRanks:
    @given(tables)
    def test_agree_with_counting(self, table):
        found = rank(table, draws=10)
        assert found.mean_ranks == pytest.approx({name: mean_rank(table, name) for name in table})
        assert list(found.mean_ranks.values()) == sorted(found.mean_ranks.values())
        assert np.mean(list(found.mean_ranks.values())) == pytest.approx((len(table) + 1) / 2)
        assert found.blocks == len(table["a"])

    @settings(max_examples=40)
    @given(tables, st.randoms())
    def test_ignore_the_level_of_a_block_and_the_order_of_blocks(self, table, random):
        offsets = rng(1).integers(-1000, 1000, len(table["a"]))  # whole numbers, so that ties stay ties
        order = random.sample(range(len(offsets)), len(offsets))
        moved = {name: np.array(row) + offsets for name, row in table.items()}
        shuffled = {name: np.array(row)[order] for name, row in table.items()}
        found = rank(table, draws=10)
        for other in (rank(moved, draws=10), rank(shuffled, draws=10)):
            assert other.mean_ranks == pytest.approx(found.mean_ranks)
            assert other.p_value == pytest.approx(found.p_value)
            assert {frozenset(group) for group in other.groups} == {frozenset(group) for group in found.groups}

    def test_lower_is_better(self):
        assert rank({"worse": [2.0, 3.0], "better": [1.0, 1.0]}).mean_ranks == {"better": 1, "worse": 2}

    def test_of_one_block_come_without_inference(self):
        found = rank({"a": [3.0], "b": [1.0], "c": [2.0]})
        assert found.mean_ranks == {"b": 1, "c": 2, "a": 3}
        assert found.intervals is found.p_value is found.pairwise is found.critical_difference is None
        assert found.groups == (("b", "c", "a"),)
        assert found.statement == (
            "1 block: mean ranks only (b 1, c 2, a 3), from which no order of the methods can be claimed."
        )


class TestInference:
    @pytest.mark.parametrize("seed", range(4))
    def test_friedman_is_scipys(self, seed):
        table = normal([0, 0.3, 0.5, 1], 9, seed)
        assert rank(table).p_value == pytest.approx(friedmanchisquare(*table.values()).pvalue)

    def test_pairs_are_holm_corrected_sign_flips(self):
        table = normal([0, 0.2, 1.5], 10, 2)
        found = rank(table)
        raw = {pair: sign_flip_p(table[pair[0]] - table[pair[1]]) for pair in found.pairwise}
        assert {frozenset(pair) for pair in raw} == {frozenset(p) for p in itertools.combinations("abc", 2)}
        expected, largest = {}, 0.0
        for i, pair in enumerate(sorted(raw, key=raw.get)):
            largest = max(largest, min(1.0, (3 - i) * raw[pair]))
            expected[pair] = largest
        assert found.pairwise == pytest.approx(expected)
        assert all(found.mean_ranks[better] <= found.mean_ranks[worse] for better, worse in found.pairwise)

    @pytest.mark.parametrize("blocks", [2, 6, 12])
    def test_two_methods_are_compared_by_the_sign_flip_test(self, blocks):
        table = normal([0, 1], blocks, 1)
        found = rank(table)
        assert found.p_value == sign_flip_p(table["a"] - table["b"])
        assert list(found.pairwise.values()) == [found.p_value]

    @pytest.mark.parametrize("blocks", [1, 2, 8])
    @pytest.mark.parametrize("methods", [2, 4])
    def test_all_ties(self, methods, blocks):
        table = {name: np.arange(blocks) for name in NAMES[:methods]}
        found = rank(table)
        assert set(found.mean_ranks.values()) == {(methods + 1) / 2}
        assert found.groups == (tuple(table),)
        if blocks > 1:
            assert found.p_value == 1 and set(found.pairwise.values()) == {1.0}
            assert set(found.intervals.values()) == {((methods + 1) / 2,) * 2}

    def test_intervals_hold_the_mean_rank_and_follow_the_seed(self):
        table = normal([0, 0.5, 1], 15, 3)
        one, same, other = (rank(table, seed=s, draws=101) for s in (0, 0, 1))
        assert one.intervals == same.intervals != other.intervals
        for name, (low, high) in one.intervals.items():
            assert 1 <= low <= one.mean_ranks[name] <= high <= 3
            assert (low, high) == pytest.approx(other.intervals[name], abs=0.2)

    def test_intervals_are_those_of_resampled_blocks(self):
        table = normal([0, 0.5, 1], 12, 3)
        ranks = np.array(
            [[1 + sum(row[b] < own[b] for row in table.values()) for b in range(12)] for own in table.values()]
        )
        means = [ranks[:, rng(s).integers(12, size=12)].mean(axis=1) for s in range(3000)]
        expected = np.quantile(means, [0.05, 0.95], axis=0).T
        found = rank(table, level=0.9).intervals
        np.testing.assert_allclose([found[name] for name in table], expected, atol=0.1)

    def test_intervals_cover_the_true_mean_rank(self):
        hits = [
            low <= 2 <= high
            for s in range(150)
            for low, high in rank(normal([0, 0, 0], 20, 500 + s), draws=400).intervals.values()
        ]
        assert np.mean(hits) == pytest.approx(0.94, abs=0.035)

    def test_equal_methods_are_seldom_separated(self):
        """Holm holds the chance of any false separation among all pairs."""
        found = [len(rank(normal([0, 0, 0, 0], 9, s), draws=5).groups) > 1 for s in range(400)]
        assert np.mean(found) <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 400)

    def test_different_methods_are_separated(self):
        found = rank(normal([0, 5, 10], 10))
        assert found.groups == (("a",), ("b",), ("c",))
        assert found.p_value < 1e-3


class TestGroups:
    def test_overlap_where_neighbours_cannot_be_told_apart(self):
        between = 0.5 + 2.0 * (-1.0) ** np.arange(10)
        found = rank({"c": np.ones(10), "b": between, "a": np.zeros(10)})
        assert found.mean_ranks == {"a": 1.5, "b": 2, "c": 2.5}
        assert found.groups == (("a", "b"), ("b", "c"))
        assert "not separated: a = b; b = c (mean ranks" in found.statement

    @settings(max_examples=40)
    @given(st.integers(0, 10**6), st.integers(2, 6))
    def test_are_the_maximal_sets_without_a_separated_pair(self, seed, methods):
        table = normal(rng(seed).uniform(0, 2, methods), 10, seed)
        found = rank(table, level=0.8, draws=5)
        separated = {frozenset(pair) for pair, p in found.pairwise.items() if p <= 1 - 0.8}
        subsets = [set(s) for r in range(1, methods + 1) for s in itertools.combinations(table, r)]
        free = [s for s in subsets if not any(pair <= s for pair in separated)]
        maximal = {frozenset(s) for s in free if not any(s < other for other in free)}
        assert {frozenset(group) for group in found.groups} == maximal
        assert len(found.groups) == len(maximal)

    def test_many_methods_are_no_burden(self):
        table = {str(i): rng(i).normal(0, 1, 6) for i in range(25)}
        assert rank(table, draws=5).groups == (tuple(rank(table, draws=5).mean_ranks),)


class TestStatement:
    @pytest.mark.parametrize(("methods", "blocks", "needed", "smallest"), [(2, 5, 6, 0.0625), (3, 6, 7, 0.0938)])
    def test_says_when_so_many_blocks_cannot_separate(self, methods, blocks, needed, smallest):
        table = normal(10 * np.arange(methods), blocks)
        found = rank(table)
        assert min(found.pairwise.values()) == pytest.approx(smallest, abs=1e-4)
        assert found.groups == (tuple(table),)
        assert found.statement.startswith(
            f"{blocks} blocks cannot separate {methods} methods at level 0.95: the smallest reachable corrected p is "
            f"{smallest}; {needed} blocks could (mean ranks: a 1, b 2"
        )
        more = rank(normal(10 * np.arange(methods), needed))
        assert len(more.groups) == methods and "cannot" not in more.statement

    def test_lists_the_ties_and_the_number_of_blocks(self):
        table = {"bad": np.full(9, 5.0), "one": np.arange(9.0) % 2, "two": np.arange(1.0, 10) % 2}
        assert rank(table).statement.startswith(
            "On 9 blocks at level 0.95, methods that are not separated: one = two; bad (mean ranks: one 1.44, "
        )


class TestCorrections:
    @pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
    def test_critical_difference_uses_the_published_quantiles(self, methods, q):
        """Demšar 2006, table 5."""
        assert nemenyi(methods, 14) == pytest.approx(q * math.sqrt(methods * (methods + 1) / 84), rel=3e-4)
        assert rank(normal(np.arange(2), 14)).critical_difference == nemenyi(2, 14)

    def test_holm_known_values(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
        assert holm([0.25]).tolist() == [0.25]

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(self, p_values):
        raw, found = np.array(p_values), holm(p_values)
        assert (found >= raw).all() and (found <= np.minimum(1, raw * len(raw)) + 1e-12).all()
        assert (np.diff(found[np.argsort(raw, kind="stable")]) >= 0).all()


class TestBadTables:
    @pytest.mark.parametrize(
        ("table", "reason"),
        [
            ({}, r"at least two methods, found \[\]"),
            ({"a": [1.0, 2.0]}, r"at least two methods, found \['a'\]"),
            ({"a": [1.0, 2.0], "b": [1.0]}, "a value for each block, .* but have {'a': 2, 'b': 1}"),
            ({"a": [1.0, np.nan], "b": [1.0, 2.0]}, "`a` must be finite"),
            ({"a": [], "b": []}, "`a` must hold one number per seed"),
        ],
    )
    def test_are_refused(self, table, reason):
        with pytest.raises(InvalidInputError, match=reason):
            rank(table)

    def test_a_wrong_level_is_refused(self):
        with pytest.raises(InvalidInputError, match="A level must lie"):
            rank({"a": [1.0], "b": [2.0]}, level=95)
