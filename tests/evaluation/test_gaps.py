import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amnesty.errors import InvalidInputError, MissingReferenceError
from amnesty.evaluation.gaps import (
    ACCURACY_PARTS,
    GAP_PARTS,
    PAPER_PARTS,
    average_gap,
    average_gap_of_means,
    average_gap_paired,
    gap_floor,
    retention,
    retention_deviation,
    runtime_efficiency,
    signed_gaps,
    symmetric_percentage_error,
    tug_of_war,
    tug_of_war_membership,
)

ALL = tuple(dict.fromkeys(GAP_PARTS + PAPER_PARTS))
fractions = st.floats(0, 1)
rows = st.fixed_dictionaries(dict.fromkeys(ALL, fractions))
tables = st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(rows, min_size=n, max_size=n)] * 2))

OWN = {"forget_accuracy": 0.5, "retain_accuracy": 0.75, "holdout_accuracy": 1.0, "membership_auc": 0.25}
OTHER = {"forget_accuracy": 0.25, "retain_accuracy": 1.0, "holdout_accuracy": 1.0, "membership_auc": 0.5}
PAIRWISE = [average_gap, signed_gaps, tug_of_war, retention, retention_deviation, symmetric_percentage_error]
OVER_SEEDS = [average_gap_of_means, average_gap_paired, gap_floor]


class TestAverageGap:
    def test_known_values(self):
        assert average_gap(OWN, OTHER) == pytest.approx(0.75 / 4)
        assert signed_gaps(OWN, OTHER) == {
            "forget_accuracy": 0.25,
            "retain_accuracy": -0.25,
            "holdout_accuracy": 0.0,
            "membership_auc": -0.25,
        }

    @given(rows, rows, st.sampled_from([GAP_PARTS, PAPER_PARTS, ("holdout_accuracy",)]))
    def test_is_the_mean_size_of_the_signed_gaps(self, one, other, parts):
        signed = signed_gaps(one, other, parts)
        assert tuple(signed) == parts
        assert signed == {name: one[name] - other[name] for name in parts}
        expected = math.fsum(abs(gap) for gap in signed.values()) / len(parts)
        assert average_gap(one, other, parts) == average_gap(other, one, parts) == pytest.approx(expected)
        assert average_gap(one, one, parts) == 0

    def test_takes_those_of_its_own_parts_that_both_have(self):
        one = {"forget_accuracy": 0.5, "retain_accuracy": 0.9, "seconds": 5.0}
        other = {"forget_accuracy": 0.25, "retain_accuracy": 0.9, "membership_auc": 0.5, "seconds": 9.0}
        assert average_gap(one, other) == average_gap(other, one) == pytest.approx(0.125)
        assert list(signed_gaps(one, other)) == ["forget_accuracy", "retain_accuracy"]

    def test_needs_something_in_common(self):
        with pytest.raises(MissingReferenceError, match="share none of forget_accuracy"):
            average_gap({"seconds": 1.0}, {"forget_accuracy": 0.5})

    @pytest.mark.parametrize("name", PAPER_PARTS)
    def test_of_the_papers_needs_all_four(self, name):
        full = dict.fromkeys(PAPER_PARTS, 0.5)
        lacking = {part: 0.5 for part in PAPER_PARTS if part != name}
        with pytest.raises(MissingReferenceError, match=f"The reference lacks {name}; this measure needs all of"):
            average_gap(full, lacking, PAPER_PARTS)
        with pytest.raises(InvalidInputError, match=f"The scores lack {name};") as refused:
            average_gap(lacking, full, parts=PAPER_PARTS)
        assert not isinstance(refused.value, MissingReferenceError)

    def test_an_advantage_may_be_negative_but_an_accuracy_gap_may_not_be_in_percent(self):
        one, other = {"membership_advantage": -0.25}, {"membership_advantage": 0.25}
        assert average_gap(one, other, ("membership_advantage",)) == 0.5
        with pytest.raises(InvalidInputError, match="`retain_accuracy` of the scores .* divide by 100"):
            average_gap({**OWN, "retain_accuracy": 99.5}, OTHER)


class TestOverSeeds:
    @settings(max_examples=50)
    @given(tables)
    def test_agree_with_direct_loops(self, table):
        many, references = table
        paired = np.mean([average_gap(one, other) for one, other in zip(many, references, strict=True)])
        means = [{name: np.mean([row[name] for row in side]) for name in ALL} for side in table]
        assert average_gap_paired(many, references) == pytest.approx(paired, abs=1e-12)
        assert average_gap_of_means(many, references) == pytest.approx(average_gap(*means), abs=1e-12)
        assert average_gap_of_means(many, references) <= average_gap_paired(many, references) + 1e-12

    @settings(max_examples=50)
    @given(tables, st.randoms())
    def test_do_not_depend_on_the_order_of_the_seeds(self, table, random):
        order = random.sample(range(len(table[0])), len(table[0]))
        shuffled = [[side[i] for i in order] for side in table]
        for gap in (average_gap_of_means, average_gap_paired):
            assert gap(*shuffled) == pytest.approx(gap(*table), abs=1e-12)

    def test_opposite_errors_cancel_in_the_means_only(self):
        many = [{"forget_accuracy": 0.25}, {"forget_accuracy": 0.75}]
        references = [{"forget_accuracy": 0.5}] * 2
        assert average_gap_of_means(many, references) == 0
        assert average_gap_paired(many, references) == 0.25

    def test_means_may_be_of_different_numbers_of_seeds_pairs_may_not(self):
        assert average_gap_of_means([OWN] * 3, [OTHER] * 2) == pytest.approx(average_gap(OWN, OTHER))
        with pytest.raises(InvalidInputError, match="3 scores and 2 references"):
            average_gap_paired([OWN] * 3, [OTHER] * 2)

    def test_a_part_that_one_seed_lacks_is_left_out(self):
        short = {name: OWN[name] for name in ("forget_accuracy", "retain_accuracy")}
        assert average_gap_paired([OWN, short], [OTHER, OTHER]) == pytest.approx(0.25)

    def test_floor_is_the_gap_between_retrained_models(self):
        references = [dict.fromkeys(GAP_PARTS, 0.5), dict.fromkeys(GAP_PARTS, 0.75)]
        second = [dict.fromkeys(GAP_PARTS, 0.625), dict.fromkeys(GAP_PARTS, 0.5)]
        floor = gap_floor(references, second)
        assert (floor.of_means, floor.paired, floor.count) == (0.0625, 0.1875, 2)
        assert floor == gap_floor(second, references)

    @pytest.mark.parametrize(("count", "expected"), [(1, 0.37), (3, 0.21), (5, 0.17), (10, 0.12)])
    def test_a_perfect_unlearner_does_not_score_zero(self, count, expected):
        """Both models are retrained ones; deviations over seeds of 0.5, 0.02, 0.2 and 0.6 points."""
        deviations, centres = np.array([0.5, 0.02, 0.2, 0.6]) / 100, np.array([0.05, 0.99, 0.94, 0.13])
        draws = np.random.default_rng(count).normal(centres, deviations, (2, 1000, count, 4))
        many, references = (
            [[dict(zip(PAPER_PARTS, row, strict=True)) for row in run] for run in side] for side in draws
        )
        pairs = list(zip(many, references, strict=True))
        of_means = 100 * np.mean([average_gap_of_means(*pair, PAPER_PARTS) for pair in pairs])
        paired = 100 * np.mean([average_gap_paired(*pair, PAPER_PARTS) for pair in pairs])
        exact = np.mean(2 * deviations / np.sqrt(np.pi)) * 100
        assert of_means == pytest.approx(expected, abs=0.012)
        assert of_means == pytest.approx(exact / np.sqrt(count), rel=0.04)
        assert paired == pytest.approx(0.37, abs=0.015)
        assert paired == pytest.approx(exact, rel=0.04)


class TestTugOfWar:
    def test_known_values(self):
        assert tug_of_war(OWN, OTHER) == 0.75 * 0.75
        with_attack = [{**scores, "svc_confidence_compat": v} for scores, v in ((OWN, 0.1), (OTHER, 0.6))]
        assert tug_of_war_membership(*with_attack) == pytest.approx(0.5 * 0.75)
        assert tug_of_war(*with_attack) == tug_of_war(OWN, OTHER)

    @given(rows, rows)
    def test_lies_between_zero_and_one_and_is_one_for_the_reference(self, one, other):
        for measure in (tug_of_war, tug_of_war_membership):
            assert 0 <= measure(one, other) <= 1
            assert measure(one, other) == measure(other, one)
            assert measure(one, one) == 1

    @pytest.mark.parametrize("name", ACCURACY_PARTS)
    def test_needs_all_three_accuracies(self, name):
        lacking = {part: value for part, value in OTHER.items() if part != name}
        with pytest.raises(MissingReferenceError, match=f"The reference lacks {name}"):
            tug_of_war(OWN, lacking)

    def test_the_membership_variant_needs_the_attack(self):
        with pytest.raises(InvalidInputError, match="lack svc_confidence_compat"):
            tug_of_war_membership(OWN, {**OTHER, "svc_confidence_compat": 0.5})


class TestRetention:
    def test_known_values(self):
        kept = retention(OWN, OTHER)
        assert kept == {"forget_accuracy": 2.0, "retain_accuracy": 0.75, "holdout_accuracy": 1.0}
        assert retention_deviation(OWN, OTHER) == 1.25
        assert retention_deviation(OWN, OTHER, parts=("retain_accuracy",)) == 0.25
        assert retention_deviation(OWN, OWN) == 0

    def test_is_not_defined_for_a_reference_of_zero(self):
        """As the accuracy of a retrained model on a class that it has never seen is."""
        for measure in (retention, retention_deviation):
            with pytest.raises(InvalidInputError, match="0 for forget_accuracy. Leave that out of `parts`"):
                measure(OWN, {**OTHER, "forget_accuracy": 0.0})


class TestSymmetricPercentageError:
    @given(rows, rows)
    def test_agrees_with_its_formula(self, one, other):
        found, mirrored = symmetric_percentage_error(one, other), symmetric_percentage_error(other, one)
        assert tuple(found) == ACCURACY_PARTS
        for name, error in found.items():
            a, b = one[name], other[name]
            assert error == pytest.approx(100 * abs(b - a) / (a + b) if a + b else 0)
            assert error == mirrored[name]
            assert 0 <= error <= 100 + 1e-9

    def test_inflates_gaps_of_small_quantities(self):
        def error(a, b):
            return symmetric_percentage_error({"forget_accuracy": a}, {"forget_accuracy": b}, ("forget_accuracy",))

        assert error(0.001, 0.002)["forget_accuracy"] == pytest.approx(100 / 3)
        assert error(0.0, 0.0)["forget_accuracy"] == 0
        assert error(0.0, 1e-9)["forget_accuracy"] == 100


class TestRuntimeEfficiency:
    def test_is_how_many_times_faster(self):
        assert runtime_efficiency(2.0, 8.0) == 4
        assert runtime_efficiency(8.0, 2.0) == 0.25

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_what_is_no_time(self, bad):
        with pytest.raises(InvalidInputError, match="`seconds` must be positive and finite"):
            runtime_efficiency(bad, 1.0)
        with pytest.raises(InvalidInputError, match="`reference_seconds` must be positive and finite"):
            runtime_efficiency(1.0, bad)

    def test_refuses_a_missing_reference(self):
        with pytest.raises(MissingReferenceError, match="`reference_seconds` is missing"):
            runtime_efficiency(1.0, None)


class TestBadInput:
    @pytest.mark.parametrize("measure", PAIRWISE)
    @pytest.mark.parametrize("nothing", [None, {}])
    def test_a_missing_reference_is_refused(self, measure, nothing):
        with pytest.raises(MissingReferenceError, match="compares with a retrained model"):
            measure(OWN, nothing)

    @pytest.mark.parametrize("measure", PAIRWISE)
    @pytest.mark.parametrize("side", [0, 1])
    @pytest.mark.parametrize("name", ["retain_accuracy", "holdout_accuracy"])
    @pytest.mark.parametrize("bad", [94.2, 1.01, -1.5, math.nan, math.inf, -math.inf])
    def test_what_is_no_fraction_is_refused(self, measure, side, name, bad):
        pair = [dict(OWN), dict(OTHER)]
        pair[side][name] = bad
        where = ("scores", "reference")[side]
        with pytest.raises(InvalidInputError, match=f"`{name}` of the {where} must be a fraction") as refused:
            measure(*pair)
        assert ("percent" in str(refused.value)) == (bad in (94.2, 1.01))

    @pytest.mark.parametrize("measure", [tug_of_war, retention, retention_deviation, symmetric_percentage_error])
    def test_a_negative_accuracy_is_refused(self, measure):
        with pytest.raises(InvalidInputError, match="a fraction from 0 to 1, found -0.1"):
            measure({**OWN, "retain_accuracy": -0.1}, OTHER)

    @pytest.mark.parametrize("measure", OVER_SEEDS)
    @pytest.mark.parametrize("nothing", [None, [], [None], [OTHER, {}]])
    def test_missing_references_over_seeds_are_refused(self, measure, nothing):
        with pytest.raises(MissingReferenceError, match="retrained model"):
            measure([OWN, OWN], nothing)

    def test_a_floor_needs_the_first_references_too(self):
        with pytest.raises(MissingReferenceError, match="retrained model"):
            gap_floor([], [OTHER])

    @pytest.mark.parametrize("measure", [average_gap_of_means, average_gap_paired])
    def test_no_seed_is_refused(self, measure):
        with pytest.raises(InvalidInputError, match="at least one unlearned model, found none"):
            measure([], [OTHER])

    def test_arguments_stay_as_they_are(self):
        own, other = dict(OWN), dict(OTHER)
        for measure in PAIRWISE:
            measure(own, other)
        assert (own, other) == (OWN, OTHER)
