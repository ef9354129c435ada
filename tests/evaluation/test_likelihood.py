import numpy as np
import pytest
from scipy.stats import norm

from amnesty.errors import InvalidInputError, ShapeError
from amnesty.evaluation.likelihood import lira, membership_auc, unlearned_lira


def rng(seed=0):
    return np.random.default_rng(seed)


def design(models, examples, seed=0):
    """Masks of complement pairs, each of half of the examples, and the pair of each model."""
    half = rng(seed).permuted(np.tile(np.arange(examples) % 2 == 0, (models // 2, 1)), axis=1)
    return np.repeat(half, 2, axis=0) ^ (np.arange(models) % 2 == 1)[:, None], np.arange(models) // 2


def study(models, examples, shift=0.0, seed=0):
    """Margins with a level of their own for each example, ``shift`` higher where it was trained on."""
    trained, groups = design(models, examples, seed)
    noise, level = rng(seed + 1).normal(0, 1, (models, examples)), rng(seed + 2).normal(3, 4, examples)
    return noise + level + shift * trained, trained, groups


def unlearned(models, examples, shift=0.0, seed=0, **options):
    margins, trained, groups = study(models, examples, shift, seed)
    return unlearned_lira(margins, trained, margins, ~trained, groups=groups, other_groups=groups, seed=0, **options)


class TestLira:
    @pytest.mark.parametrize("shrink", [0.0, 8.0])
    @pytest.mark.parametrize("location", ["mean", "median"])
    def test_agrees_with_a_loop_that_fits_anew_for_each_model(self, shrink, location):
        margins, trained, groups = study(10, 6, 1.0)
        found = lira(
            margins, margins, trained, attacked_groups=groups, shadow_groups=groups, shrink=shrink, location=location
        )
        for m in range(10):
            density = []
            for mask in (trained, ~trained):
                parts = [margins[(groups != groups[m]) & mask[:, i], i] for i in range(6)]
                pooled = sum(p.var() * len(p) for p in parts) / sum(len(p) - 1 for p in parts)
                middle = [getattr(np, location)(p) for p in parts]
                variance = [(shrink * pooled + p.var() * len(p)) / (shrink + len(p) - 1) for p in parts]
                density.append(norm.logpdf(margins[m], middle, np.sqrt(variance)))
            np.testing.assert_allclose(found[m], density[0] - density[1], rtol=1e-9, atol=1e-9)

    def test_offline_is_the_chance_under_models_that_never_saw_it(self):
        margins, trained, groups = study(16, 6, 1.0)
        foreign = rng(9).normal(3, 2, (3, 6))
        found = lira(
            foreign,
            margins,
            trained,
            attacked_groups=np.array([70, 71, 72]),
            shadow_groups=groups,
            online=False,
            shrink=0,
        )
        out = [margins[~trained[:, i], i] for i in range(6)]
        expected = norm.cdf(foreign, [o.mean() for o in out], [o.std(ddof=1) for o in out])
        np.testing.assert_allclose(1 - np.exp(-found), expected, atol=1e-12)

    def test_offline_scores_tell_sure_members_apart(self):
        """The plain probability is 1 for both."""
        margins, trained, groups = study(16, 2)
        far = margins.mean(0) + np.array([[30.0], [60.0]])
        found = lira(far, margins, trained, attacked_groups=[50, 51], shadow_groups=groups, online=False)
        assert np.isfinite(found).all()
        assert (found[1] > found[0]).all()

    def test_never_fits_with_the_group_of_the_attacked_model(self):
        margins, trained, groups = study(10, 6)
        changed = margins.copy()
        changed[groups == 2] += 100
        options = {"attacked_groups": np.full(10, 2), "shadow_groups": groups}
        one, other = (lira(margins, shadows, trained, **options) for shadows in (margins, changed))
        np.testing.assert_allclose(one, other, rtol=1e-9)

    @pytest.mark.parametrize("online", [True, False])
    def test_equal_laws_cannot_be_told_apart(self, online):
        margins, trained, groups = study(32, 2000)
        scores = lira(margins, margins, trained, attacked_groups=groups, shadow_groups=groups, online=online)
        found = membership_auc(scores, trained, groups, seed=0)
        assert found.value == pytest.approx(0.5, abs=0.01)
        assert found.low < 0.5 < found.high

    def test_members_known_by_heart_are_found(self):
        margins, trained, groups = study(16, 300, 12.0)
        for online in (True, False):
            scores = lira(margins, margins, trained, attacked_groups=groups, shadow_groups=groups, online=online)
            assert membership_auc(scores, trained, groups, seed=0).value > 0.999

    @pytest.mark.parametrize("shrink", [0.0, 8.0])
    def test_constants_of_an_example_change_nothing_and_order_neither(self, shrink):
        margins, trained, groups = study(12, 9, 1.0)
        options = {"shadow_groups": groups, "shrink": shrink}
        plain = lira(margins, margins, trained, attacked_groups=groups, **options)
        moved = margins + rng(5).normal(0, 100, 9)
        np.testing.assert_allclose(lira(moved, moved, trained, attacked_groups=groups, **options), plain, rtol=1e-7)
        rows, columns = rng(6).permutation(12), rng(7).permutation(9)
        mixed = margins[rows][:, columns]
        found = lira(
            mixed, mixed, trained[rows][:, columns], attacked_groups=groups[rows], shadow_groups=groups[rows]
        )
        if shrink:
            np.testing.assert_allclose(found, plain[rows][:, columns], rtol=1e-7)

    @pytest.mark.parametrize("shrink", [0.0, 8.0])
    def test_an_example_with_equal_margins_says_nothing_but_is_a_number(self, shrink):
        margins, trained, groups = study(12, 9, 1.0)
        margins[:, 4] = 13.7
        for online in (True, False):
            options = {"attacked_groups": groups, "shadow_groups": groups, "shrink": shrink, "online": online}
            scores = lira(margins, margins, trained, **options)
            assert np.isfinite(scores).all()
            assert np.ptp(scores[groups == 0, 4]) == pytest.approx(0)

    def test_inputs_stay_as_they_are(self):
        margins, trained, groups = study(12, 9)
        kept = margins.copy()
        lira(margins, margins, trained, attacked_groups=groups, shadow_groups=groups, location="median")
        np.testing.assert_array_equal(margins, kept)


class TestUnlearnedLira:
    @pytest.mark.parametrize("density", ["gauss", "kde"])
    @pytest.mark.parametrize("models", [16, 32])
    def test_equal_laws_read_one_half(self, models, density):
        found = unlearned(models, 1500, density=density)
        values = found.auc().value, found.per_point().mean(), found.balanced_accuracy
        assert values == pytest.approx([0.5] * 3, abs=0.015)
        assert found.true_positive_rate(0.01) == pytest.approx(0.01, abs=0.004)

    @pytest.mark.parametrize(("models", "expected"), [(16, 0.62), (32, 0.58)])
    def test_scoring_the_models_that_were_fitted_would_not(self, models, expected):
        """The published defect, made by telling `lira` that the attacked models are strangers."""
        margins, trained, groups = study(models, 1500)
        scores = lira(margins, margins, trained, attacked_groups=groups + 1000, shadow_groups=groups, shrink=0)
        accuracy = ((scores > 0) == trained).mean()
        assert accuracy == pytest.approx(expected, abs=0.02)
        assert membership_auc(scores, trained, groups, seed=0).low > 0.54

    def test_comparing_one_example_across_groups_would_not_either(self):
        """Why `per_point` and `pooled_auc` leave such pairs out."""
        found = unlearned(32, 1500)
        across = [
            np.mean(a[~np.isnan(a)][:, None] > b[~np.isnan(b)])
            for a, b in zip(found.inside.T, found.outside.T, strict=True)
        ]
        assert np.mean(across) < 0.47

    @pytest.mark.parametrize("examples", [1, 2])
    def test_even_for_very_few_examples_the_pooled_value_leans_nowhere(self, examples):
        found = [unlearned(16, examples, seed=s, shrink=0).auc(draws=100).value for s in range(400)]
        assert np.mean(found) == pytest.approx(0.5, abs=0.025)

    def test_half_a_deviation_left_reads_what_is_known(self):
        found = unlearned(32, 3000, 0.5)
        assert found.balanced_accuracy == pytest.approx(0.572, abs=0.01)
        best = norm.cdf(0.5 / 2**0.5)  # with the laws known: 0.638
        assert 0.58 < found.auc().value < best
        assert found.per_point().mean() == pytest.approx(found.auc().value, abs=0.01)

    @pytest.mark.parametrize("density", ["gauss", "kde"])
    def test_what_is_still_known_by_heart_reads_one(self, density):
        found = unlearned(16, 200, 12.0, density=density)
        assert found.auc().value > 0.999
        assert found.balanced_accuracy > 0.999
        assert found.true_positive_rate(0.01) > 0.999
        assert found.summary() == (1.0, 1.0, 1.0)
        assert found.null.auc(draws=100).value == pytest.approx(0.5, abs=0.06)

    def test_kernels_see_what_two_moments_do_not(self):
        """Inside margins lie at -1 or 1, outside ones follow a normal law: mean and variance are equal."""
        margins, trained, groups = study(128, 300)
        level = rng(2).normal(3, 4, 300)
        sides = np.sign(margins - level) + rng(8).normal(0, 0.1, margins.shape)
        margins = np.where(trained, sides, margins - level)
        options = {"groups": groups, "other_groups": groups, "seed": 0, "shrink": 0}
        gauss, kde = (
            unlearned_lira(margins, trained, margins, ~trained, density=d, **options).auc(draws=100).value
            for d in ("gauss", "kde")
        )
        assert kde > gauss + 0.05

    def test_the_interval_holds_one_half_as_often_as_it_says(self):
        """Twice as often wrong without the widening for fits that share models: see `pooled_auc`."""
        found = [unlearned(16, 60, seed=s).auc(draws=300) for s in range(150)]
        assert 0.90 <= np.mean([f.low <= 0.5 <= f.high for f in found]) <= 0.99

    def test_the_null_shows_what_chance_alone_reads(self):
        plain = unlearned(32, 2000)
        assert plain.null.null is None
        assert plain.null.summary() == pytest.approx(plain.summary(), abs=0.03)
        shifted = unlearned(32, 2000, 0.7)
        assert shifted.null.summary() == pytest.approx(plain.summary(), abs=0.05)
        assert shifted.summary().mean > plain.summary().mean + 0.1

    def test_retrained_models_may_stand_outside(self):
        margins, trained, groups = study(16, 400)
        retrained = rng(77).normal(0, 1, margins.shape) + rng(2).normal(3, 4, 400)  # the levels of `study`
        options = {"groups": groups, "other_groups": groups, "seed": 0}
        same = unlearned_lira(margins, trained, retrained, trained, **options)
        assert same.auc().value == pytest.approx(0.5, abs=0.03)
        assert (np.isnan(same.inside) == ~trained).all() and (np.isnan(same.outside) == ~trained).all()
        worse = unlearned_lira(margins - 2, trained, retrained, trained, **options)
        assert worse.auc().value > 0.85  # whatever its sign: the laws differ

    def test_near_copies_of_one_model_count_once(self):
        """Four forget sets to each original: a model forgets a quarter of what it was trained on."""
        trained, pairs = design(12, 40)
        which = rng(3).integers(0, 4, (12, 40))
        forgotten = np.concatenate([trained & (which == k) for k in range(4)])
        margins = np.tile(rng(1).normal(0, 1, (12, 40)), (4, 1)) + rng(4).normal(0, 0.01, (48, 40))
        never, groups = np.tile(~trained, (4, 1)), np.tile(pairs, 4)
        found = unlearned_lira(margins, forgotten, margins, never, groups=groups, other_groups=groups, seed=0)
        for pair in range(6):
            for side in (found.inside, found.outside):
                assert ((~np.isnan(side[groups == pair])).sum(0) == 1).all()

    def test_order_of_models_and_examples_and_constants_change_nothing(self):
        margins, trained, groups = study(12, 30, 1.0)
        rows, columns = rng(6).permutation(12), rng(7).permutation(30)
        mixed, mask = (margins + rng(5).normal(0, 50, 30))[rows][:, columns], trained[rows][:, columns]
        plain = unlearned_lira(margins, trained, margins, ~trained, groups=groups, other_groups=groups, seed=0)
        found = unlearned_lira(mixed, mask, mixed, ~mask, groups=groups[rows], other_groups=groups[rows], seed=0)
        np.testing.assert_allclose(found.inside, plain.inside[rows][:, columns], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.per_point(), plain.per_point()[columns])
        assert found.auc() == plain.auc()

    def test_follows_the_seed_and_leaves_numpys_generator_alone(self):
        before = np.random.get_state()[1].tolist()
        margins, trained, groups = study(12, 30, 1.0)
        options = {"groups": groups, "other_groups": groups}
        one, same, other = (
            unlearned_lira(margins, trained, margins, ~trained, seed=s, **options).auc() for s in (0, 0, 1)
        )
        assert one == same != other
        assert np.random.get_state()[1].tolist() == before


class TestTruePositiveRate:
    def test_is_the_best_of_all_thresholds(self):
        found = unlearned(16, 300, 1.0)
        inside, outside = (v[~np.isnan(v)] for v in (found.inside, found.outside))
        for at in (0.005, 0.01, 0.1):
            allowed = [t for t in outside if (outside > t).mean() <= at]
            assert found.true_positive_rate(at) == (inside > min(allowed)).mean()

    def test_too_few_scores_are_refused(self):
        found = unlearned(16, 100)  # 800 scores a side
        assert 0 <= found.true_positive_rate(0.0125) <= 1
        with pytest.raises(InvalidInputError, match="needs 1000 scores outside, found 800"):
            found.true_positive_rate(0.01)
        with pytest.raises(InvalidInputError, match="between 0 and 1"):
            found.true_positive_rate(1)


class TestMembershipAuc:
    def test_a_mask_of_nonmembers_chooses_what_is_compared(self):
        scores = np.array([[9.0, 5.0, 0.0], [9.0, 5.0, 0.0]])
        member = np.array([[True, False, False]] * 2)
        groups = np.arange(2)
        found = membership_auc(scores, member, groups, nonmember=np.array([[False, False, True]] * 2), seed=0)
        assert (found.value, found.inside, found.outside) == (1.0, 2, 2)
        with pytest.raises(InvalidInputError, match="overlap"):
            membership_auc(scores, member, groups, nonmember=member, seed=0)


class TestBadInput:
    def test_right_or_wrong_in_place_of_margins_is_refused(self):
        margins, trained, groups = study(12, 9)
        correct = (margins > 0).astype(float)
        with pytest.raises(InvalidInputError, match="Margins"):
            lira(correct, correct, trained, attacked_groups=groups, shadow_groups=groups)
        with pytest.raises(InvalidInputError, match="Margins"):
            unlearned_lira(correct, trained, margins, ~trained, groups=groups, other_groups=groups, seed=0)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_numbers_that_are_not_finite_are_refused(self, bad):
        margins, trained, groups = study(12, 9)
        margins[3, 3] = bad
        with pytest.raises(InvalidInputError, match="`attacked` must be finite"):
            lira(margins, margins, trained, attacked_groups=groups, shadow_groups=groups)

    def test_too_few_models_of_a_side_are_named(self):
        margins, trained, groups = study(12, 9)
        trained[:, 4] = True
        with pytest.raises(InvalidInputError, match=r"never saw it .* examples \[4\] have as few as 0"):
            lira(margins, margins, trained, attacked_groups=groups, shadow_groups=groups)
        with pytest.raises(InvalidInputError, match=r"examples \[4\] have as few as 0"):
            unlearned_lira(margins, trained, margins, ~trained, groups=groups, other_groups=groups, seed=0)

    def test_models_that_are_no_pairs_are_refused(self):
        margins, trained, _ = study(12, 9)
        alone = np.arange(12)
        with pytest.raises(InvalidInputError, match="as few as 0"):
            unlearned_lira(margins, trained, margins, ~trained, groups=alone, other_groups=alone, seed=0)

    def test_masks_that_overlap_are_refused(self):
        margins, trained, groups = study(12, 9)
        with pytest.raises(InvalidInputError, match="overlap"):
            unlearned_lira(margins, trained, margins, trained, groups=groups, other_groups=groups, seed=0)

    def test_unknown_options_are_refused(self):
        margins, trained, groups = study(12, 9)
        for options in ({"location": "mode"}, {"shrink": -1.0}, {"shrink": np.nan}):
            with pytest.raises(InvalidInputError, match="shrink"):
                lira(margins, margins, trained, attacked_groups=groups, shadow_groups=groups, **options)
        with pytest.raises(InvalidInputError, match="density"):
            unlearned(12, 9, density="box")

    def test_other_shapes_are_refused(self):
        margins, trained, groups = study(12, 9)
        options = {"attacked_groups": groups, "shadow_groups": groups}
        for attacked, mask in ((margins[:, :8], trained), (margins, trained[:, :8]), (margins, trained.astype(int))):
            with pytest.raises(ShapeError):
                lira(attacked, margins, mask, **options)
        with pytest.raises(ShapeError, match="attacked_groups"):
            lira(margins, margins, trained, attacked_groups=groups[:5], shadow_groups=groups)
