"""The published formula: its numbers, and the faults for which `Nash` exists."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from amnesty.bargaining import Nash, PublishedNash
from amnesty.errors import InvalidInputError, ShapeError
from tests.bargaining.samples import rows


def matrix(forget, retain, cosine):
    inner = cosine * forget * retain
    return rows([forget**2, inner], [inner, retain**2])


@pytest.mark.parametrize("cosine", [-0.9, -0.3, 0.2, 0.9])
@pytest.mark.parametrize("norms", [(1.0, 1.0), (3.0, 0.7), (0.8, 20.0)])
def test_agrees_with_nash_where_gradients_are_long_and_oblique(norms, cosine):
    gramian = matrix(*norms, cosine)
    assert_close(PublishedNash(max_norm=None)(gramian), Nash(length="nash")(gramian), rtol=2e-3, atol=0)
    assert_close(PublishedNash()(gramian), Nash()(gramian), rtol=2e-3, atol=0)


@pytest.mark.parametrize(("cosine", "forget"), [(0.001, 8.3), (-0.001, -7.3)])
def test_the_measured_fault(cosine, forget):
    # The formula in float64, of gradients of length 2 and 0.02: 1 / (2 sqrt(1 + cos)) = 0.5 would be right.
    ff, fr, rr = 4.0, cosine * 0.04, 4e-4
    retain = np.sqrt((rr * ff - fr * np.sqrt(rr * ff)) / (rr * rr * ff - rr * fr * fr + 1e-8))
    assert (1 - rr * retain**2) / (fr * retain + 1e-8) == pytest.approx(forget, abs=0.05)
    published = PublishedNash(max_norm=None)(matrix(2.0, 0.02, cosine))
    if forget > 0:
        assert published.tolist() == pytest.approx([forget, retain], rel=1e-2)
    else:  # read as a failed bargain
        assert published.tolist() == pytest.approx([0.1, 1.0])


def test_its_direction_depends_on_the_length_of_the_gradients():
    long, short = (PublishedNash(max_norm=None)(matrix(s, s, 0.5)) for s in (1.0, 0.01))
    assert_close(long[0] / long[1], torch.ones((), dtype=torch.float64), rtol=1e-4, atol=0)
    assert abs(short[0] / short[1] - 1) > 0.3


@pytest.mark.parametrize("fallback", [0.1, 1e-3])
def test_falls_back_where_the_weights_are_not_positive(fallback):
    weights = PublishedNash(fallback=fallback, max_norm=None)(matrix(2.0, 0.02, -0.001))
    assert weights.tolist() == pytest.approx([fallback, 1.0])


def test_falls_back_where_the_formula_is_undefined():
    # Exactly aligned gradients without the epsilon: 0 / 0.
    weights = PublishedNash(epsilon=0.0, max_norm=None)(rows([1.0, 1.0], [1.0, 1.0]))
    assert weights.tolist() == pytest.approx([0.1, 1.0])


@pytest.mark.parametrize("max_norm", [1.0, 0.2])
def test_clips_the_norm_as_the_published_loop(max_norm):
    gramian = matrix(3.0, 0.7, 0.2)
    free, clipped = PublishedNash(max_norm=None)(gramian), PublishedNash(max_norm=max_norm)(gramian)
    assert_close(clipped / free, (clipped / free)[:1].expand(2))
    assert (clipped @ gramian @ clipped).sqrt().item() == pytest.approx(max_norm, rel=1e-5)


def test_does_not_lengthen_a_short_update():
    # A fallback of length 0.2.
    assert PublishedNash()(matrix(2.0, 0.02, -0.001)).tolist() == pytest.approx([0.1, 1.0])


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_faults_show(fault):
    assert PublishedNash()(rows([1.0, 0.0], [0.0, fault])).isnan().all()


def test_knows_two_players_only():
    with pytest.raises(ShapeError, match=r"\[2, 2\]"):
        PublishedNash()(torch.eye(3))


@pytest.mark.parametrize(
    "settings", [{"epsilon": math.nan}, {"fallback": math.inf}, {"max_norm": 0.0}, {"max_norm": math.inf}], ids=str
)
def test_refuses_settings(settings):
    with pytest.raises(InvalidInputError, match=f"`{next(iter(settings))}`"):
        PublishedNash(**settings)
