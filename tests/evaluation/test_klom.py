import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.klom import klom, klom_floor, klom_permuted, klom_summary
from amnesty.seeds import derive


def rng(seed=0):
    return np.random.default_rng(seed)


def laws(models, examples, shift=0.0, seed=0):
    unlearned, oracle = rng(seed).normal(0, 1, (2, models, examples))
    return unlearned + shift, oracle


def by_loop(unlearned, oracle, compat, bins=20):
    """One example, with the bins of NumPy and the divergence of SciPy."""
    unlearned, oracle = (np.clip(side, -100, 100) for side in (unlearned, oracle))
    both = np.append(unlearned, oracle)
    edges = np.linspace(both.min(), max(both.max(), both.min() + (np.ptp(both) == 0)), bins + 1)
    if compat:
        p, q = ([(np.digitize(side, edges) == k + 1).sum() for k in range(bins)] for side in (oracle, unlearned))
    else:
        p, q = (np.histogram(side, edges)[0] for side in (oracle, unlearned))
    if sum(p) == 0 or sum(q) == 0:
        return np.nan
    p, q = np.divide(p, sum(p)), np.divide(q, sum(q))
    return entropy(p, np.where(p > 0, np.maximum(q, 1e-5), q))


class TestBinned:
    @pytest.mark.parametrize("compat", [False, True])
    @given(seed=st.integers(0, 10**6), decimals=st.sampled_from([0, 1, 12]), scale=st.sampled_from([1.0, 60.0]))
    def test_agrees_with_a_loop(self, compat, seed, decimals, scale):
        unlearned, oracle = (scale * side.round(decimals) for side in laws(30, 6, 0.5, seed))
        oracle = oracle[:25]
        unlearned[:, 0] = oracle[:, 0] = 3.0
        expected = [by_loop(u, o, compat) for u, o in zip(unlearned.T, oracle.T, strict=True)]
        np.testing.assert_allclose(klom(unlearned, oracle, compat=compat), expected, atol=1e-12)

    def test_equal_models_are_zero_apart(self):
        side = laws(50, 40)[0]
        np.testing.assert_allclose(klom(side, side[::-1]), 0, atol=1e-12)

    @pytest.mark.parametrize(
        ("models", "mean", "tolerance"), [(20, 3.03, 0.15), (100, 0.35, 0.025), (500, 0.052, 0.006)]
    )
    def test_equal_laws_read_the_known_floor(self, models, mean, tolerance):
        found = klom(*laws(models, 1000))
        assert found.mean() == pytest.approx(mean, abs=tolerance)
        if models == 100:
            assert np.quantile(found, 0.95) == pytest.approx(0.69, abs=0.05)

    def test_many_models_approach_the_truth(self):
        unlearned, oracle = laws(20000, 20, 1.0)
        assert klom(unlearned, oracle).mean() == pytest.approx(0.5, abs=0.05)

    def test_states_its_direction(self):
        """Oracles where unlearned models never are cost much; the reverse does not."""
        wide, narrow = rng(0).normal(0, 3, (200, 50)), rng(1).normal(0, 0.5, (200, 50))
        assert klom(narrow, wide).mean() > 3 * klom(wide, narrow).mean()

    def test_laws_apart_reach_the_cap(self):
        unlearned, oracle = (0.01 * side for side in laws(50, 5))
        unlearned += 90
        np.testing.assert_allclose(klom(unlearned, oracle), np.log(1e5), atol=0.001)

    def test_the_published_bins_drop_the_largest_value(self):
        """Half of the oracles are cut off at the top: the published value does not see them."""
        unlearned, oracle = laws(100, 5)
        oracle[:50] = 500
        unlearned[0] = 500
        published, closed = klom(unlearned, oracle, compat=True), klom(unlearned, oracle)
        assert (published < 0.05).all() and (closed > 1).all()
        oracle[:] = 500 + np.arange(100.0)[:, None]
        assert np.isnan(klom(unlearned, oracle, compat=True)).all()
        assert np.isfinite(klom(unlearned, oracle)).all()

    def test_margins_cut_off_altogether_are_no_nan(self):
        unlearned, oracle = laws(20, 3)
        unlearned[:, 0] = oracle[:, 0] = 1e9 + np.arange(20)
        unlearned[:, 1], oracle[:, 1] = 300, -300
        found = klom(unlearned, oracle)
        assert found[0] == 0
        assert found[1] == pytest.approx(np.log(1e5), abs=0.001)

    def test_order_changes_nothing(self):
        unlearned, oracle = laws(40, 9, 0.5)
        columns = rng(4).permutation(9)
        np.testing.assert_allclose(
            klom(rng(2).permutation(unlearned)[:, columns], rng(3).permutation(oracle)[:, columns]),
            klom(unlearned, oracle)[columns],
        )


class TestGauss:
    def test_is_the_closed_form(self):
        """Against numerical integration of the two fitted normal laws."""
        unlearned, oracle = laws(60, 3, 0.7)
        oracle *= 1.8
        x = np.linspace(-30, 30, 200001)[:, None]

        def log_density(side):
            return -0.5 * ((x - side.mean(0)) / side.std(0, ddof=1)) ** 2 - np.log(side.std(0, ddof=1))

        p, q = log_density(oracle), log_density(unlearned)
        expected = (np.exp(p) * (p - q)).sum(0) * 60 / 200000 / np.sqrt(2 * np.pi)
        np.testing.assert_allclose(klom(unlearned, oracle, estimator="gauss"), expected, rtol=1e-6)

    @pytest.mark.parametrize(("models", "mean", "high"), [(50, 0.04, 0.125), (100, 0.02, 0.06)])
    def test_equal_laws_read_the_known_floor(self, models, mean, high):
        found = klom(*laws(models, 3000), estimator="gauss")
        assert found.mean() == pytest.approx(mean, rel=0.2)
        assert np.quantile(found, 0.95) == pytest.approx(high, rel=0.2)

    def test_ignores_constants_and_unit(self):
        unlearned, oracle = laws(40, 9, 0.5)
        plain, moved = klom(unlearned, oracle, estimator="gauss"), (7 * unlearned + 5, 7 * oracle + 5)
        np.testing.assert_allclose(klom(*moved, estimator="gauss"), plain, rtol=1e-9)
        assert klom(oracle, oracle, estimator="gauss") == pytest.approx(0, abs=1e-12)

    def test_an_example_without_variance_is_refused(self):
        unlearned, oracle = laws(40, 9)
        oracle[:, 4] = 1.0
        with pytest.raises(InvalidInputError, match=r"examples \[4\]"):
            klom(unlearned, oracle, estimator="gauss")


class TestPermuted:
    def test_equal_laws_are_level_with_chance(self):
        found = klom_permuted(*laws(60, 800), draws=99, seed=0)
        assert found.excess.mean() == pytest.approx(0, abs=0.03)
        for level in (0.05, 0.2, 0.5):
            assert (found.p_value <= level).mean() == pytest.approx(level, abs=0.04)

    def test_a_shift_shows(self):
        found = klom_permuted(*laws(60, 200, 1.5), draws=99, seed=0)
        assert found.excess.mean() > 0.5
        assert (found.p_value <= 0.05).mean() > 0.9
        assert found.p_value.min() == 0.01

    def test_permutes_whole_models(self, monkeypatch):
        """Against a loop that exchanges rows, with the sides that the seed draws."""
        unlearned, oracle = laws(12, 7, 0.5)
        pooled = np.concatenate([unlearned, oracle])
        monkeypatch.setattr("amnesty.evaluation.klom._CHUNK", 1)
        found = klom_permuted(unlearned, oracle, draws=20, seed=3)
        sides = rng(derive(3, "permutations")).permuted(np.tile(np.arange(24) < 12, (20, 1)), axis=1)
        value, chance = klom(unlearned, oracle), np.stack([klom(pooled[s], pooled[~s]) for s in sides])
        np.testing.assert_allclose(found.excess, value - chance.mean(0), atol=1e-12)
        np.testing.assert_allclose(found.p_value, (1 + (chance >= value - 1e-12).sum(0)) / 21)

    def test_follows_the_seed_and_leaves_numpys_generator_alone(self):
        before, sides = np.random.get_state()[1].tolist(), laws(20, 6)
        one, same, other = (klom_permuted(*sides, draws=20, seed=s).excess for s in (0, 0, 1))
        assert (one == same).all() and (one != other).any()
        assert np.random.get_state()[1].tolist() == before


class TestFloor:
    def test_is_that_of_equal_numbers(self):
        oracle = rng(0).normal(0, 1, (200, 800))
        assert klom_floor(oracle, seed=0).mean() == pytest.approx(0.35, abs=0.04)
        assert klom_floor(oracle, models=50, seed=0).mean() == pytest.approx(0.89, abs=0.06)
        assert klom_floor(oracle, estimator="gauss", seed=0).mean() == pytest.approx(0.02, abs=0.004)

    def test_refuses_too_few_oracles(self):
        oracle = rng(0).normal(0, 1, (100, 4))
        with pytest.raises(InvalidInputError, match="needs 200 oracles, found 100"):
            klom_floor(oracle, models=100, seed=0)


class TestSummary:
    def test_groups_by_mask_or_index(self):
        values = np.arange(101.0)
        found = klom_summary(values, {"forget": values < 21, "retain": np.arange(101)})
        assert found["forget"] == (10, 10, 19, 21)
        assert found["retain"] == (50, 50, 95, 101)

    def test_refuses_nothing_and_nan(self):
        for values, group in (([1.0, 2.0], [False, False]), ([1.0, np.nan], [True, True])):
            with pytest.raises(InvalidInputError, match="'forget'"):
                klom_summary(np.array(values), {"forget": np.array(group)})


class TestBadInput:
    def test_is_refused_with_the_reason(self):
        unlearned, oracle = laws(20, 4)
        for sides, options, message in [
            ((unlearned[:7], oracle), {}, "found 7 unlearned and 20 oracles"),
            ((unlearned, oracle > 0), {}, "Margins"),
            ((np.where(unlearned > 1, np.inf, unlearned), oracle), {}, "finite"),
            ((unlearned, oracle), {"bins": 1}, "bins"),
            ((unlearned, oracle), {"estimator": "kde"}, "estimator"),
            ((unlearned, oracle), {"estimator": "gauss", "compat": True}, "compat"),
        ]:
            with pytest.raises(InvalidInputError, match=message):
                klom(*sides, **options)
        with pytest.raises(InvalidInputError, match="draws"):
            klom_permuted(unlearned, oracle, draws=0, seed=0)
        with pytest.raises(ShapeError):
            klom(unlearned, oracle[:, :3])
