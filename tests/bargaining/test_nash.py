"""Nash: exact, free of scale, and honest about the absence of an agreement."""

import math
from typing import get_args

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from amnesty.bargaining import Nash
from amnesty.bargaining.nash import Length, cosines
from amnesty.errors import InvalidInputError, ShapeError
from tests.bargaining.exact import residual, solve
from tests.bargaining.samples import agreeing, bargains, circle, generator, gram, random_power, rows

LENGTHS = get_args(Length)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cosine", [-0.999, -0.9, 0.0, 0.9])
@pytest.mark.parametrize("n", [2, 3, 5, 16, 64])
def test_solves_the_equation_of_the_bargain(n, cosine, seed, device):
    gramian = gram(agreeing(n, seed, cosine, decades=12))
    power = random_power(n, seed) if seed % 2 else None
    weights = Nash(power, length="nash")(gramian.to(device)).cpu()
    assert residual(gramian, weights, power or [1.0] * n) <= 1e-9


@given(bargains(most=4))
def test_matches_the_exact_optimum(bargain):
    jacobian, power = bargain
    gramian = gram(jacobian)
    exact = solve(gramian, power)
    assert exact is not None
    expected = [float(b / mp.sqrt(k)) for b, k in zip(exact, gramian.diagonal().tolist(), strict=True)]
    # A relative accuracy: what rounding of K leaves grows like 1 / (1 + cos).
    np.testing.assert_allclose(Nash(power, length="nash")(gramian).numpy(), expected, rtol=1e-11)


@pytest.mark.parametrize("cosine", [-0.999, -0.5, -1e-9, 0.0, 1e-9, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("norms", [(1.0, 1.0), (2.0, 0.02), (1e-12, 1e12)])
def test_two_players_have_the_closed_form(cosine, norms):
    forget, retain = norms
    inner = cosine * forget * retain
    gramian = rows([forget**2, inner], [inner, retain**2])
    expected = [1 / (norm * math.sqrt(1 + cosine)) for norm in norms]
    np.testing.assert_allclose(Nash(length="nash")(gramian).numpy(), expected, rtol=1e-12)


def test_the_published_step_is_the_unit_bisector():
    # The paper's Eq. 8, then the norm clip of its loop: only the directions of the gradients remain.
    jacobian = rows([3.0, 1.0, 0.0], [0.0, -0.01, 0.02])
    bisector = (jacobian / jacobian.norm(dim=1, keepdim=True)).sum(0)
    assert_close(Nash()(gram(jacobian)) @ jacobian, bisector / bisector.norm())


@given(bargains())
def test_every_player_gains_its_power_over_its_weight(bargain):
    jacobian, power = bargain
    weights = Nash(power, length="nash")(gram(jacobian))
    gains = gram(jacobian) @ weights
    assert (gains > 0).all()
    assert_close(gains, torch.tensor(power, dtype=torch.float64) / weights, rtol=1e-9, atol=0)


@given(bargains())
def test_lengths(bargain):
    jacobian, power = bargain
    gramian = gram(jacobian)
    total = math.sqrt(sum(power))
    length = {name: (Nash(power, length=name)(gramian) @ jacobian).norm().item() for name in LENGTHS}
    most = (Nash(power, length="nash")(gramian) * gramian.diagonal().sqrt()).max().item()
    assert length["unit"] == pytest.approx(1.0, rel=1e-9)
    assert length["nash"] == pytest.approx(total, rel=1e-9)
    assert length["fading"] == pytest.approx(total / most, rel=1e-9)


@pytest.mark.parametrize("opposition", [1e-2, 1e-3, 1e-4, 1e-5])
def test_fading_length_falls_to_zero_where_two_players_oppose(opposition):
    # sqrt(2) (1 + cos)^(1/2): continuous with the length 0 of a stationary point.
    jacobian = agreeing(2, cosine=opposition - 1)
    update = Nash(length="fading")(gram(jacobian)) @ jacobian
    assert update.norm().item() == pytest.approx(math.sqrt(2 * opposition), rel=1e-9)


@pytest.mark.parametrize("length", LENGTHS)
@given(bargain=bargains(), seed=st.integers(0, 1000))
def test_ignores_the_length_of_each_gradient(length, bargain, seed):
    jacobian, power = bargain
    factors = 10 ** (12 * torch.rand(len(power), 1, generator=generator(seed), dtype=torch.float64) - 6)
    rule = Nash(power, length=length)
    before, after = rule(gram(jacobian)), rule(gram(factors * jacobian))
    assert_close(after @ (factors * jacobian), before @ jacobian, rtol=0, atol=1e-8 * math.sqrt(sum(power)))


@given(bargain=bargains(), seed=st.integers(0, 1000))
def test_ignores_the_order_of_the_players(bargain, seed):
    jacobian, power = bargain
    order = torch.randperm(len(power), generator=generator(seed))
    shuffled = Nash([power[i] for i in order])(gram(jacobian[order]))
    assert_close(shuffled, Nash(power)(gram(jacobian))[order], rtol=1e-9, atol=0)


@pytest.mark.parametrize("power", [(1.0, 1.0, 1.0), (0.1, 1.0, 10.0)])
@pytest.mark.parametrize(
    "jacobian",
    [
        rows([3.0, 0.5], [-0.2, 0.1], [0.0, 1e-3]),
        rows([1.0, 0.0], [0.9, 0.1], [-0.9, 0.3]),
        rows([1e4, 1.0], [-1e-4, 1e-4], [0.0, 5.0]),
    ],
)
def test_matches_brute_force(jacobian, power):
    points = circle()
    value = torch.tensor(power, dtype=torch.float64) @ (jacobian @ points).clamp(min=1e-300).log()
    best = points[:, value.argmax()]
    assert_close(Nash(power)(gram(jacobian)) @ jacobian, best, atol=1e-4, rtol=0)


@given(bargains(most=5))
def test_a_player_of_power_two_counts_twice(bargain):
    jacobian, power = bargain
    doubled = Nash([2 * power[0], *power[1:]], length="nash")(gram(jacobian)) @ jacobian
    twice = torch.cat([jacobian[:1], jacobian])
    assert_close(Nash([power[0], *power], length="nash")(gram(twice)) @ twice, doubled, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("power", [None, (4.0,)])
@pytest.mark.parametrize("norm", [1e-12, 1.0, 1e12])
def test_one_player_goes_its_way(norm, power):
    gramian = rows([norm**2])
    assert Nash(power)(gramian).item() == pytest.approx(1 / norm)
    assert Nash(power, length="fading")(gramian).item() == pytest.approx(1 / norm)
    total = math.sqrt(power[0]) if power else 1.0
    assert Nash(power, length="nash")(gramian).item() == pytest.approx(total / norm)


class TestNoAgreement:
    """All weights are exactly 0 where no direction helps everybody, and only there."""

    @pytest.mark.parametrize("length", LENGTHS)
    @pytest.mark.parametrize("power", [None, (1.0, 30.0)])
    @pytest.mark.parametrize("ratio", [1e-9, 0.3, 1.0, 1e9])
    def test_opposed(self, ratio, power, length):
        gradient = torch.randn(7, generator=generator(0), dtype=torch.float64)
        weights = Nash(power, length=length)(gram(torch.stack([gradient, -ratio * gradient])))
        assert weights.tolist() == [0.0, 0.0]

    @pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
    @pytest.mark.parametrize("threshold", [10.0, 1e3, 1e5])
    def test_two_players_stop_at_the_threshold(self, threshold, scale):
        for factor, agreed in [(1.01, True), (0.99, False)]:
            cosine = factor / threshold**2 - 1
            gramian = rows([1.0, cosine * scale], [cosine * scale, scale**2])
            weights = Nash(threshold=threshold)(gramian)
            assert (weights > 0).all() if agreed else (weights == 0).all()

    @pytest.mark.parametrize("length", LENGTHS)
    def test_triangle(self, length):
        # Three gradients at 120 degrees: a = (1, 1, 1) makes their sum vanish.
        corners = circle(4)[:, :3].T * rows([1e-3], [1.0], [1e3])
        assert Nash(length=length)(gram(corners)).tolist() == [0.0] * 3

    def test_triangle_lifted_out_of_its_plane(self):
        # With a common component h, b = 1 / sqrt(3 h^2 / (1 + h^2)) for each player.
        for factor, agreed in [(1.01, True), (0.99, False)]:
            h = factor / (1e3 * math.sqrt(3))
            corners = torch.cat([circle(4)[:, :3].T, torch.full((3, 1), h, dtype=torch.float64)], dim=1)
            weights = Nash(length="nash")(gram(corners))
            if agreed:
                expected = 1 / (math.sqrt(3) * h)
                np.testing.assert_allclose(weights.numpy(), [expected] * 3, rtol=1e-6)
            else:
                assert weights.tolist() == [0.0] * 3

    @staticmethod
    def doubtful(seed):
        # Few dimensions for the players, or two that nearly oppose each other.
        draw = generator(seed)
        n = 2 + seed % 3
        jacobian = torch.randn(n, max(2, n - 1), generator=draw, dtype=torch.float64)
        if seed % 2:
            opposition = 10 ** (-7 + 3 * torch.rand((), generator=draw, dtype=torch.float64))
            first = jacobian[0]
            across = jacobian[1] - jacobian[1] @ first / first.square().sum() * first
            jacobian[1] = -first + opposition.sqrt() * first.norm() * across / across.norm()
        return gram(jacobian), random_power(n, seed)

    @pytest.mark.parametrize("seed", range(100))
    def test_is_declared_exactly_when_there_is_none(self, seed):
        gramian, power = self.doubtful(seed)
        weights = Nash(power, length="nash")(gramian)
        exact = solve(gramian, power)
        largest = max((float(b) / math.sqrt(w) for b, w in zip(exact or [], power, strict=False)), default=math.inf)
        if (weights == 0).all():
            assert largest > 1e3 * (1 - 1e-6)
        else:
            assert largest < 1e3 * (1 + 1e-6)
            assert residual(gramian, weights, power) <= 1e-6

    def test_the_doubtful_cases_are_of_both_kinds(self):
        agreed = [bool(Nash(power)(gramian).any()) for gramian, power in map(self.doubtful, range(100))]
        assert 20 < sum(agreed) < 80

    def test_an_indefinite_matrix_is_never_half_solved(self):
        # Rounding of a float32 Gram matrix may leave an eigenvalue below 0. Such a matrix is solved or refused.
        draw = generator(0)
        refused = 0
        for _ in range(200):
            jacobian = torch.randn(4, 3, generator=draw, dtype=torch.float64)
            noise = torch.randn(4, 4, generator=draw, dtype=torch.float64)
            norms = jacobian.norm(dim=1)
            gramian = gram(jacobian) + 1e-5 * (noise + noise.T) * norms.outer(norms)
            weights = Nash(length="nash")(gramian)
            if (weights == 0).all():
                refused += 1
                continue
            bargain = weights * gramian.diagonal().sqrt()
            assert_close(bargain * (cosines(gramian) @ bargain), torch.ones_like(weights), atol=2e-3, rtol=0)
        assert 0 < refused < 200


class TestAbsence:
    @pytest.mark.parametrize("length", LENGTHS)
    @pytest.mark.parametrize("absent", [0, 1, 3])
    def test_a_player_with_a_zero_gradient_abstains(self, absent, length):
        power = [1.0, 2.0, 3.0, 4.0]
        jacobian = agreeing(4, seed=3)
        jacobian[absent] = 0.0
        others = [i for i in range(4) if i != absent]
        weights = Nash(power, length=length)(gram(jacobian))
        assert weights[absent] == 0
        expected = Nash([power[i] for i in others], length=length)(gram(jacobian[others]))
        assert_close(weights[others], expected)

    def test_an_extreme_power_of_an_absent_player_does_not_matter(self):
        gramian = rows([0.0, 0.0], [0.0, 4.0])
        for power in (1e-30, 1e30):
            assert Nash((power, 1.0))(gramian).tolist() == [0.0, 0.5]

    @pytest.mark.parametrize("length", LENGTHS)
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_all_absent(self, n, length):
        assert Nash(length=length)(torch.zeros(n, n)).tolist() == [0.0] * n


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("fault", [math.nan, math.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (2, 2)])
@pytest.mark.parametrize("n", [3, 4])
def test_faults_show_in_every_weight(n, place, fault, length):
    gramian = gram(agreeing(n))
    gramian[place] = gramian[place[::-1]] = fault
    assert Nash(length=length)(gramian).isnan().all()


def test_faults_show_beside_opposed_and_absent_players():
    for good in (rows([1.0, -1.0], [-1.0, 1.0]), torch.zeros(2, 2, dtype=torch.float64)):
        gramian = torch.full((3, 3), math.nan, dtype=torch.float64)
        gramian[:2, :2] = good
        assert Nash()(gramian).isnan().all()


def test_takes_a_float32_matrix():
    gramian = gram(agreeing(3))
    weights = Nash()(gramian.float())
    assert weights.dtype == torch.float64
    assert_close(weights, Nash()(gramian), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"length": "long"},
        {"when_stationary": "panic"},
        {"power": (1.0, 0.0)},
        {"power": (1.0, -1.0)},
        {"power": (math.nan, 1.0)},
        {"power": (math.inf, 1.0)},
        {"threshold": 1.0},
        {"threshold": 1e6},
        {"threshold": math.nan},
    ],
    ids=str,
)
def test_refuses_settings(settings):
    (name,) = settings
    with pytest.raises(InvalidInputError, match=f"`{name}`"):
        Nash(**settings)


def test_refuses_powers_of_other_players():
    with pytest.raises(ShapeError, match=r"2 entries .* 3 players"):
        Nash((1.0, 2.0))(torch.eye(3))


def test_cosines():
    jacobian = rows([3.0, 4.0], [4.0, -3.0], [0.0, 0.0], [-6e9, -8e9], [1e-150, 0.0])
    expected = rows(
        [1.0, 0.0, 0.0, -1.0, 0.6],
        [0.0, 1.0, 0.0, 0.0, 0.8],
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [-1.0, 0.0, 0.0, 1.0, -0.6],
        [0.6, 0.8, 0.0, -0.6, 1.0],
    )
    assert_close(cosines(gram(jacobian)), expected, rtol=0, atol=1e-12)
