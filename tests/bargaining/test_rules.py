"""What every rule of combination keeps to, whether ours or from TorchJD, and what `Sum` adds."""

import math

import pytest
import torch
from torch.testing import assert_close
from torchjd.aggregation import (
    AlignedMTLWeighting,
    CAGradWeighting,
    DualProjWeighting,
    IMTLGWeighting,
    MeanWeighting,
    MGDAWeighting,
    PCGradWeighting,
    UPGradWeighting,
)

from amnesty.bargaining import Nash, PublishedNash, Sum, Weighting, gramian
from amnesty.errors import InvalidInputError, ShapeError
from tests.bargaining.samples import agreeing, direction, generator, gram, rows

RULES = {
    "sum": Sum(),
    "nash": Nash(),
    "nash, length nash": Nash(length="nash"),
    "nash, fading": Nash(length="fading"),
    "published": PublishedNash(),
    "aligned-mtl": Weighting(AlignedMTLWeighting()),
    "cagrad": Weighting(CAGradWeighting(c=0.5)),
    "dual-proj": Weighting(DualProjWeighting()),
    "imtl-g": Weighting(IMTLGWeighting()),
    "mean": Weighting(MeanWeighting()),
    "mgda": Weighting(MGDAWeighting()),
    "pcgrad": Weighting(PCGradWeighting()),
    "upgrad": Weighting(UPGradWeighting()),
}
FOR_TWO = {"published"}
SEES_THE_UNIT = {"published"}  # the fault that `test_published.py` shows
IN_RANDOM_ORDER = {"pcgrad"}  # projects onto the others in an order that it draws, which matters from three on


@pytest.fixture(params=RULES)
def name(request):
    return request.param


@pytest.fixture
def rule(name):
    torch.manual_seed(0)  # some of TorchJD's draw
    return RULES[name]


def sizes(name):
    return [2] if name in FOR_TWO else [2, 3, 5]


class TestEveryRule:
    def test_gives_one_finite_weight_per_player_beside_the_matrix(self, name, rule, device):
        for n in sizes(name):
            for dtype in (torch.float32, torch.float64):
                weights = rule(gram(agreeing(n, cosine=0.3)).to(device, dtype))
                assert weights.shape == (n,)
                assert weights.dtype == torch.float64
                assert weights.device.type == device.type
                assert weights.isfinite().all()
                assert weights.any()

    def test_is_pure(self, name, rule):
        for n in sizes(name) if name not in IN_RANDOM_ORDER else [2]:
            K = gram(agreeing(n, cosine=-0.3))
            held = K.clone()
            first = rule(K)
            rule(gram(agreeing(n, seed=1)))
            assert torch.equal(K, held)
            assert torch.equal(rule(K), first)

    def test_helps_players_who_agree_on_everything(self, name, rule):
        for n in sizes(name):
            jacobian = torch.rand(n, 7, generator=generator(n), dtype=torch.float64)
            assert (jacobian @ direction(jacobian, rule(gram(jacobian))) > 0).all()

    @pytest.mark.parametrize("scale", [1e-10, 1e-3, 1e10])
    @pytest.mark.parametrize("name", [name for name in RULES if name not in SEES_THE_UNIT])
    def test_ignores_the_unit_of_the_losses(self, name, rule, scale):
        for n in sizes(name) if name not in IN_RANDOM_ORDER else [2]:
            jacobian = agreeing(n, cosine=-0.5, decades=1)
            scaled = direction(jacobian, rule(scale**2 * gram(jacobian)))
            assert_close(scaled, direction(jacobian, rule(gram(jacobian))), rtol=0, atol=1e-5)

    def test_ignores_the_order_of_the_players(self, name, rule):
        for n in sizes(name) if name not in IN_RANDOM_ORDER else [2]:
            jacobian = agreeing(n, cosine=0.2, decades=0.3)
            order = torch.arange(n).roll(1)
            assert_close(rule(gram(jacobian[order])), rule(gram(jacobian))[order], rtol=1e-4, atol=1e-5)

    def test_a_zero_gradient_abstains(self, name, rule):
        for n in sizes(name) if name not in IN_RANDOM_ORDER else [2]:
            jacobian = agreeing(n, cosine=0.4)
            jacobian[n - 1] = 0.0
            weights = rule(gram(jacobian))
            assert weights[n - 1] == 0
            if name not in FOR_TWO:
                assert_close(weights[:-1], rule(gram(jacobian[:-1])))

    def test_zero_gradients_are_no_agreement(self, name, rule):
        for n in sizes(name):
            assert rule(torch.zeros(n, n)).tolist() == [0.0] * n

    @pytest.mark.parametrize("fault", [math.nan, math.inf])
    def test_faults_reach_the_update(self, name, rule, fault):
        for n in sizes(name):
            jacobian = agreeing(n, cosine=0.4)
            jacobian[0, 0] = fault
            assert not (rule(gramian(list(jacobian[:, None]))) @ jacobian).isfinite().all()

    @pytest.mark.parametrize("wrong", [torch.ones(2, 3), torch.ones(4)], ids=["a Jacobian", "a vector"])
    def test_refuses_what_is_no_gram_matrix(self, rule, wrong):
        with pytest.raises(ShapeError, match="`gramian`"):
            rule(wrong)

    def test_refuses_integers(self, rule):
        with pytest.raises(ShapeError, match="float type"):
            rule(torch.eye(2, dtype=torch.int64))


class TestSum:
    def test_weights(self):
        assert Sum()(torch.eye(3)).tolist() == [1.0, 1.0, 1.0]
        assert Sum((0.5, -2.0, 0.0))(torch.eye(3)).tolist() == [0.5, -2.0, 0.0]

    @pytest.mark.parametrize("weights", [(), (0.0, 0.0), (math.nan, 1.0), (1.0, math.inf)], ids=str)
    def test_refuses_weights(self, weights):
        with pytest.raises(InvalidInputError, match="`weights`"):
            Sum(weights)

    def test_refuses_weights_of_other_players(self):
        with pytest.raises(ShapeError, match=r"`weights` has 2 entries .* 3 players"):
            Sum((1.0, 2.0))(torch.eye(3))


class TestWeighting:
    def test_short_gradients_do_not_become_the_mean(self):
        K = torch.tensor([[1.0, -0.3], [-0.3, 0.5]], dtype=torch.float64)
        alone = UPGradWeighting()
        assert alone(1e-8 * K).tolist() == [0.5, 0.5] != alone(K).tolist()  # below TorchJD's threshold
        assert_close(Weighting(alone)(1e-8 * K), alone(K))

    def test_hands_on_the_active_players_in_units_of_the_mean_square(self):
        seen = []

        def equal(matrix):
            seen.append(matrix)
            return torch.full((len(matrix),), 0.25)

        K = rows([1e-20, 0.0, 1e-20], [0.0, 0.0, 0.0], [1e-20, 0.0, 3e-20])
        assert Weighting(equal)(K).tolist() == [0.25, 0.0, 0.25]
        assert_close(seen[0], rows([0.5, 0.5], [0.5, 1.5]))

    def test_is_not_asked_about_faults(self):
        def never(matrix):
            raise AssertionError(matrix)

        assert Weighting(never)(rows([1.0, 0.0], [0.0, math.nan])).isnan().all()
        assert Weighting(never)(torch.zeros(2, 2)).tolist() == [0.0, 0.0]

    @pytest.mark.parametrize("n", [2, 5])
    @pytest.mark.parametrize("weighting", [AlignedMTLWeighting(), IMTLGWeighting(), MGDAWeighting()], ids=repr)
    def test_is_the_weighting_itself_where_units_do_not_matter(self, weighting, n):
        K = gram(agreeing(n, cosine=0.1))  # of mean square 1
        assert_close(Weighting(weighting)(K), weighting(K))

    def test_two_players_of_imtl_g_are_at_the_unit_bisector(self):
        # An independent way to the direction of Nash: equal projections on both unit gradients.
        for seed in range(5):
            jacobian = agreeing(2, seed, cosine=-0.6, decades=1)
            imtl = direction(jacobian, Weighting(IMTLGWeighting())(gram(jacobian)))
            assert_close(imtl, direction(jacobian, Nash()(gram(jacobian))), atol=1e-6, rtol=0)

    def test_refuses_a_class(self):
        with pytest.raises(InvalidInputError, match="Pass an instance"):
            Weighting(MeanWeighting)
        with pytest.raises(InvalidInputError, match="`when_stationary`"):
            Weighting(MeanWeighting(), when_stationary="panic")
