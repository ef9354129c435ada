import numpy as np
import pytest

from amnesty.errors import InvalidInputError, MissingReferenceError, UnknownNameError
from amnesty.evaluation import average_gap, over_seeds


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
