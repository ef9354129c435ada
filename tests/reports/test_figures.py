import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from amnesty.reports import read_scenarios
from amnesty.reports.figures import bins, cosine_figure, loss_figure, running_mean, trade, trade_figure
from amnesty.reports.labels import place
from amnesty.reports.scenario import Step
from tests.reports.folders import history, scores, write


def one(tmp_path, content=None):
    return read_scenarios(write(tmp_path, content, steps=history()))[0]


def test_trade_measures_distances_to_the_reference(tmp_path):
    shown = trade(one(tmp_path))
    where = dict(zip(shown.names, shown.points, strict=True))
    assert where["retrain"] == (0, 0)
    assert where["munba"] == pytest.approx((1, 1))
    assert set(shown.front) == {"munba", "finetune", "brand_new_method"}


def test_the_original_and_the_reference_are_not_on_the_front(tmp_path):
    content = scores()
    for name in ("finetune", "brand_new_method"):
        content["methods"][name] |= {"forget_accuracy": 0.5, "holdout_accuracy": 0.5}
    assert trade(one(tmp_path, content)).front == ("munba",)


def test_trade_falls_back_to_retain_accuracy(tmp_path):
    content = scores()
    for values in content["methods"].values():
        del values["holdout_accuracy"]
    assert trade(one(tmp_path, content)).kept_measure == "retain_accuracy"


def test_no_front_without_a_reference_and_no_figure_without_numbers(tmp_path):
    shown = trade(one(tmp_path / "a", scores(reference=None)))
    assert not shown.compared
    assert shown.front == ()
    bare = one(tmp_path / "b", {"schema": 1, "methods": {"munba": {"seconds": 1.0}}})
    assert trade(bare) is None
    assert trade_figure(bare, "x") is None


def test_figures_are_well_formed_named_and_themed(tmp_path):
    scenario = one(tmp_path)
    figures = [
        trade_figure(scenario, "s1"),
        loss_figure(scenario.history, "s2", "M"),
        cosine_figure(scenario.history, "s3", "M"),
    ]
    for at, svg in enumerate(figures, start=1):
        tree = ET.fromstring(svg)
        assert tree.get("role") == "img"
        assert tree.find("title").text
        assert tree.find("desc").text
        ids = [node.get("id") for node in tree.iter() if node.get("id")]
        assert all(name.startswith(f"s{at}-") for name in ids)
        assert "var(--" in svg
        assert "http" not in svg
        assert "<style" not in svg
        for node in tree.iter():  # every reference points at something
            target = node.get("href") or ""
            assert not target or target.removeprefix("#") in ids


def test_the_users_own_style_changes_nothing(tmp_path):
    scenario = one(tmp_path)
    plain = trade_figure(scenario, "a")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None, "svg.fonttype": "path"}):
        assert trade_figure(scenario, "a") == plain


def test_names_from_files_are_text(tmp_path):
    content = scores()
    content["methods"]["$\\frac{1}{0}$ <script>alert(1)</script> \N{CJK UNIFIED IDEOGRAPH-6C38}"] = {
        "forget_accuracy": 0.2,
        "holdout_accuracy": 0.2,
    }
    svg = trade_figure(one(tmp_path, content), "x")
    assert "<script>" not in svg
    assert "$\\frac{1}{0}$ &lt;script&gt;" in svg


def test_curves_with_gaps_long_runs_and_nothing(tmp_path):
    assert loss_figure([], "x", "M") is None
    assert loss_figure([Step(1), Step(2)], "x", "M") is None
    assert cosine_figure([Step(1), Step(2)], "x", "M") is None
    assert loss_figure([Step(1, forget_loss=1.0)], "x", "M")
    assert cosine_figure([Step(1, cosine=0.5), Step(2), Step(3, cosine=-0.5)], "x", "M")
    long = [Step(t, epoch=t // 100, forget_loss=1 / t, retain_loss=0.1, cosine=0.0) for t in range(1, 20_001)]
    assert len(loss_figure(long, "x", "M")) < 100_000


@pytest.mark.parametrize("width", [1, 2, 3, 8, 100])
def test_running_mean_matches_a_loop(width):
    values = np.random.default_rng(0).normal(size=40)
    values[[0, 7, 8, 39]] = np.nan
    half = width // 2
    slow = [
        np.nan if np.isnan(value) else np.nanmean(values[max(0, i - half) : i + half + 1])
        for i, value in enumerate(values)
    ]
    np.testing.assert_allclose(running_mean(values, width), slow)


def test_bins_keep_the_mean():
    values = np.arange(12.0)
    assert bins(values, 4).tolist() == [1.5, 5.5, 9.5]
    assert bins(values, 1).tolist() == values.tolist()


def test_labels_of_close_points_do_not_cover_each_other():
    points = [(50.0 + i, 50.0) for i in range(6)]
    boxes = place(points, [(60.0, 10.0)] * 6, (0, 0, 300, 200))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])
