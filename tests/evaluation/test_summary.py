import numpy as np
import pytest

from amnesty.errors import InvalidInputError, MissingReferenceError, UnknownNameError
from amnesty.evaluation import average_gap, over_seeds
from amnesty.evaluation.gaps import signed_gaps


def seeds(count=6):
    random = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        noise = random.normal(0, 0.002, 5)
        forget = {"original": 0.95, "retrain": 0.5, "retrain_again": 0.5, "near": 0.51, "far": 0.8}
        row = {
            name: {"forget_accuracy": value + e, "holdout_accuracy": 0.9 + e, "holdout_accuracy_low": 0.8}
            for (name, value), e in zip(forget.items(), noise, strict=True)
        }
        for scores in row.values():
            scores["average_gap"] = average_gap(scores, row["retrain"])
        rows.append(row)
    return rows


def test_summarises_what_is_the_model_s_own():
    found = over_seeds(seeds())
    values = [row["near"]["forget_accuracy"] for row in seeds()]
    summary = found.summaries["near"]["forget_accuracy"]
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.deviation == pytest.approx(np.std(values, ddof=1))
    assert summary.low < summary.mean < summary.high and summary.count == 6


def test_ranks_the_methods_but_not_the_models_they_are_measured_by():
    found = over_seeds(seeds())
    assert list(found.ranking.mean_ranks) == ["near", "far"] and list(found.against_best) == ["far"]
    assert found.against_best["far"].difference > 0 and found.against_best["far"].p_value == pytest.approx(2 / 64)
    assert "6 seeds" in found.statement


def test_the_floor_is_that_of_two_retrained_models():
    found = over_seeds(seeds())
    assert found.floor.paired == pytest.approx(found.gap_paired["retrain_again"])
    assert found.floor.of_means > 0
    assert found.gap_of_means["retrain"] == 0 and found.gap_paired["far"] >= found.gap_of_means["far"]
    assert over_seeds(seeds(), floor=None).floor is None


def test_a_blind_measure_ranks_by_its_distance_alone():
    with pytest.raises(InvalidInputError, match="cannot be ranked by `forget_accuracy`"):
        over_seeds(seeds(), by="forget_accuracy")
    found = over_seeds(seeds(), by="forget_accuracy", distance=True)
    assert list(found.ranking.mean_ranks) == ["near", "far"] and "distance of forget_accuracy" in found.statement


def test_the_order_of_the_seeds_does_not_matter():
    rows = seeds()
    assert over_seeds(rows).ranking.mean_ranks == over_seeds(rows[::-1]).ranking.mean_ranks


def test_one_seed_claims_nothing():
    found = over_seeds(seeds(1))
    assert found.ranking.intervals is None and found.summaries["near"]["forget_accuracy"].deviation is None
    assert "1 seed" in found.statement and "1 seeds" not in found.statement


def test_methods_that_a_seed_lacks_are_left_out():
    rows = seeds()
    del rows[2]["far"]
    found = over_seeds(rows)
    assert "far" not in found.summaries and found.ranking is None and "nothing to rank" in found.statement


def test_refuses_what_cannot_be_compared():
    with pytest.raises(InvalidInputError, match="at least one seed"):
        over_seeds([])
    with pytest.raises(InvalidInputError, match="No method occurs in all"):
        over_seeds([{"a": {"forget_accuracy": 1.0}}, {"b": {"forget_accuracy": 1.0}}])
    with pytest.raises(UnknownNameError, match="average_gap"):
        over_seeds(seeds(), by="averge_gap")
    rows = [{k: v for k, v in row.items() if not k.startswith("retrain")} for row in seeds()]
    with pytest.raises(MissingReferenceError, match="needs that model's scores"):
        over_seeds(rows, by="forget_accuracy", distance=True)
    assert over_seeds(rows).gap_of_means is None


def test_signed_gaps_are_means_over_the_seeds():
    rows = seeds()
    found = over_seeds(rows).signed_gaps["far"]
    each = [signed_gaps(row["far"], row["retrain"]) for row in rows]
    assert found == pytest.approx({part: np.mean([one[part] for one in each]) for part in each[0]})
    assert found["forget_accuracy"] > 0.2 and over_seeds(rows, reference=None).signed_gaps is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_left_out(value):
    rows = seeds()
    rows[1]["near"]["forget_accuracy"] = value
    rows[2]["far"]["relearning_ratio"] = value
    found = over_seeds(rows)
    assert "forget_accuracy" not in found.summaries["near"] and "holdout_accuracy" in found.summaries["near"]
    assert "forget_accuracy" not in found.signed_gaps["near"] and "forget_accuracy" in found.signed_gaps["far"]
    assert "relearning_ratio" not in found.summaries["far"]
    assert np.isfinite(list(found.gap_of_means.values())).all()


def test_a_method_that_shares_nothing_with_the_retrained_model_has_no_gap():
    rows = seeds()
    for row in rows:
        row["strange"] = {"seconds": 1.0}
    found = over_seeds(rows)
    assert "strange" not in found.gap_of_means and found.summaries["strange"]["seconds"].mean == 1
    for row in rows:
        row["retrain_again"] = {"seconds": 1.0}
    assert over_seeds(rows).floor is None


def test_says_why_nothing_was_ranked():
    rows = [{name: {"forget_accuracy": 0.5} for name in ("original", "near", "far")} for _ in range(2)]
    assert "`average_gap` compares with a retrained model, and there is none" in over_seeds(rows).statement
    rows = [{**row, "retrain": {"holdout_accuracy": 0.9}} for row in rows]
    says = over_seeds(rows, by="forget_accuracy", distance=True).statement
    assert "no method has `forget_accuracy` in every seed beside that of the retrained model" in says
    rows = seeds()
    del rows[3]["far"]["average_gap"]
    assert "only near has `average_gap` in every seed" in over_seeds(rows).statement
