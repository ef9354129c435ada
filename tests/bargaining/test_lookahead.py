"""Lookahead players: the gradient of one loss at the point where another player's step would lead."""

import math
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from amnesty.bargaining import Bargain, Lookahead, Nash, Sum, Weighting
from amnesty.errors import InvalidInputError, LossError, ModelError, PrecisionError
from tests.bargaining.samples import generator

STEP = 0.3  # long enough for every term to count


class Problem:
    """A small network and a batch for each player; ``forget`` and the like ascend."""

    def __init__(self, model, inputs, players=("forget", "retain"), dtype=torch.float64):
        self.model = model.to(dtype)
        draw = generator(1)
        self.batches = {
            name: (torch.randn(8, *inputs, generator=draw).to(dtype), torch.randint(4, (8,), generator=draw))
            for name in players
        }

    @property
    def named(self):
        return dict(self.model.named_parameters())

    @property
    def parameters(self):
        return list(self.model.parameters())

    def loss(self, name, call=None, rows=slice(None)):
        x, y = self.batches[name]
        loss = cross_entropy((call or self.model)(x[rows]), y[rows])
        return loss if name == "retain" else -loss

    def players(self):
        return {name: lambda name=name: self.loss(name) for name in self.batches}

    def plain(self, name):
        """The gradient of one loss, from copies of the buffers."""
        return self._differentiate(self._at(name, self.named))

    def composed(self, name, after, masks=None, step=STEP):
        """The gradient of ``L(theta - step * P grad M(theta))`` by automatic differentiation of all of it."""
        named = self.named
        live = {k: p for k, p in named.items() if p.requires_grad}
        with sdpa_kernel(SDPBackend.MATH):
            inner = torch.autograd.grad(self._at(after, named), live.values(), create_graph=True, allow_unused=True)
            moved = {
                k: p if g is None else p - step * (g if masks is None else g * masks[k])
                for (k, p), g in zip(live.items(), inner, strict=True)
            }
            found = self._differentiate(self._at(name, named | moved))
        return found if masks is None else [g * masks[k] for k, g in zip(live, found, strict=True)]

    def _at(self, name, named):
        buffers = {k: b.clone() for k, b in self.model.named_buffers()}
        return self.loss(name, lambda x: functional_call(self.model, named | buffers, (x,)))

    def _differentiate(self, loss):
        live = [p for p in self.parameters if p.requires_grad]
        found = torch.autograd.grad(loss, live, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(live, found, strict=True)]


class Attention(nn.Module):
    """One head of attention over four tokens."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(5, 24), nn.Linear(8, 4)

    def forward(self, x):
        q, k, v = self.enter(x).chunk(3, dim=-1)
        return self.leave(scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0].mean(1))


class Tied(nn.Module):
    """One weight, used twice."""

    def __init__(self):
        super().__init__()
        self.once, self.twice = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.twice.weight = self.once.weight

    def forward(self, x):
        return self.twice(self.once(x).tanh())[:, :4]


def dense():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4))


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.SiLU(), nn.Conv2d(6, 5, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(5, 4),
    )  # fmt: skip


def attention():
    torch.manual_seed(0)
    return Attention()


def kinked():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 4)
    )


def dropping():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Dropout(0.5), nn.Linear(20, 4))


NETWORKS = {
    "dense": (dense, (6,)),
    "convolutional": (convolutional, (3, 8, 8)),
    "attention": (attention, (4, 5)),
    "kinked": (kinked, (3, 8, 8)),
}


def problem_of(network, **options):
    make, inputs = NETWORKS[network]
    return Problem(make(), inputs, **options)


@pytest.fixture
def problem():
    return problem_of("dense")


def alone(problem, name, look, **options):
    """The gradient of one lookahead player, and the agreement."""
    names = tuple(problem.batches)
    rule = Sum([float(n == name) for n in names])
    agreement = Bargain(problem.model, rule, lookahead={name: look}, **options).backward(**problem.players())
    return taken(problem), agreement


def taken(problem):
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in problem.parameters if p.requires_grad]
    for p in problem.parameters:
        p.grad = None
    return found


def assert_same(found, expected, rtol=1e-9):
    """Alike, relative to the length of the whole."""
    assert distance(found, expected) <= rtol


def distance(found, expected):
    wrong = sum((a.double() - b.double()).square().sum() for a, b in zip(found, expected, strict=True))
    return math.sqrt(wrong / sum(b.double().square().sum() for b in expected))


def difference(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def weighted(*pairs):
    """The sum of gradients times numbers."""
    return [
        sum(w * g for w, g in zip([w for w, _ in pairs], gs, strict=True))
        for gs in zip(*[g for _, g in pairs], strict=True)
    ]


ORDERS = {"forget": "retain", "retain": "forget"}


class TestExact:
    @pytest.mark.parametrize(("name", "after"), ORDERS.items())
    @pytest.mark.parametrize("network", NETWORKS)
    def test_is_the_gradient_of_the_composition(self, network, name, after):
        problem = problem_of(network)
        expected, inner = problem.composed(name, after), problem.plain(after)
        assert distance(problem.plain(name), expected) > 0.05  # or this would show nothing
        look = {name: Lookahead(STEP, after)}
        agreement = Bargain(problem.model, Sum((0.3, 0.7)), lookahead=look).backward(**problem.players())
        weights = dict(zip(problem.batches, (0.3, 0.7), strict=True))
        assert_same(taken(problem), weighted((weights[name], expected), (weights[after], inner)))
        lengths = {name: expected, after: inner}
        for norm, player in zip(agreement.norms, problem.batches, strict=True):
            assert norm.item() == pytest.approx(math.sqrt(sum(g.square().sum() for g in lengths[player])))

    def test_on_a_quadratic(self):
        A = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        B = torch.tensor([[1.0, -0.5], [-0.5, 4.0]], dtype=torch.float64)
        x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        a = 0.1

        def step(curvature):
            x.grad = None
            bargain = Bargain([x], Sum((0.4, 0.6)), lookahead={"forget": Lookahead(a, curvature=curvature)})
            agreement = bargain.backward(forget=lambda: -(x @ B @ x) / 2, retain=lambda: x @ A @ x / 2)
            return x.grad, agreement

        theta = x.detach()
        v = -B @ (theta - a * A @ theta)
        exact, agreement = step("exact")
        assert_close(exact, 0.4 * (v - a * A @ v) + 0.6 * A @ theta)
        assert agreement.losses[0].item() == pytest.approx(0.5 * (v @ torch.linalg.solve(B, v)).item() * -1)
        assert_close(step("finite-difference")[0], exact, rtol=1e-6, atol=1e-8)
        assert_close(step("none")[0] - exact, 0.4 * a * A @ v)
        share = (a * A @ v).norm() / (v - a * A @ v).norm()
        assert_close(agreement.curvature["forget"].share, share)

    @pytest.mark.parametrize("curvature", ["exact", "finite-difference"])
    def test_with_masks(self, problem, curvature):
        masks = {k: torch.rand(p.shape, generator=generator(5)) < 0.5 for k, p in problem.named.items()}
        expected = problem.composed("forget", "retain", masks)
        look = Lookahead(STEP, curvature=curvature)
        found, _ = alone(problem, "forget", look, masks=list(masks.values()))
        assert_same(found, expected, 1e-9 if curvature == "exact" else 1e-6)
        assert distance(problem.composed("forget", "retain"), expected) > 0.1

    def test_with_frozen_parameters(self, problem):
        problem.parameters[0].requires_grad_(False)
        expected = problem.composed("forget", "retain")
        found, _ = alone(problem, "forget", Lookahead(STEP))
        assert_same(found, expected)

    @pytest.mark.parametrize("curvature", ["exact", "finite-difference"])
    def test_with_tied_parameters(self, curvature):
        torch.manual_seed(0)
        problem = Problem(Tied(), (6,))
        expected = problem.composed("forget", "retain")
        found, _ = alone(problem, "forget", Lookahead(STEP, curvature=curvature))
        assert_same(found, expected, 1e-9 if curvature == "exact" else 1e-6)

    @pytest.mark.parametrize("curvature", ["exact", "finite-difference"])
    def test_with_micro_batches(self, problem, curvature):
        expected = problem.composed("forget", "retain")
        parts = [slice(0, 2), slice(2, 5), slice(5, 8)]
        players = {
            name: [
                lambda name=name, rows=rows: problem.loss(name, rows=rows) * (rows.stop - rows.start) / 8
                for rows in parts
            ]
            for name in problem.batches
        }
        look = {"forget": Lookahead(STEP, curvature=curvature)}
        agreement = Bargain(problem.model, Sum((1.0, 0.0)), lookahead=look).backward(**players)
        assert_same(taken(problem), expected, 1e-9 if curvature == "exact" else 1e-6)
        assert agreement.losses[1].item() == pytest.approx(problem.loss("retain").item())

    def test_with_checkpointed_attention(self):
        # Recomputed in the second derivative, by the same kernels.
        problem = problem_of("attention")
        expected = problem.composed("forget", "retain")
        model = problem.model

        def player(name):
            return lambda: problem.loss(name, lambda x: checkpoint(model, x, use_reentrant=False))

        bargain = Bargain(model, Sum((1.0, 0.0)), lookahead={"forget": Lookahead(STEP)})
        bargain.backward(**{name: player(name) for name in problem.batches})
        assert_same(taken(problem), expected)

    def test_several_players_look_past_the_same_one(self):
        problem = problem_of("convolutional", players=("cats", "dogs", "birds", "retain"))
        expected = [
            (1.0, problem.composed("cats", "retain")),
            (2.0, problem.composed("dogs", "retain", step=0.1)),
            (3.0, problem.plain("birds")),
            (4.0, problem.plain("retain")),
        ]
        looks = {"cats": Lookahead(STEP), "dogs": Lookahead(0.1)}
        agreement = Bargain(problem.model, Sum((1, 2, 3, 4)), lookahead=looks).backward(**problem.players())
        assert agreement.players == tuple(problem.batches)
        assert agreement.curvature.keys() == looks.keys()
        assert_same(taken(problem), weighted(*expected))

    @pytest.mark.parametrize(
        "kinds", [("finite-difference", "exact", "none"), ("exact", "none", "finite-difference")]
    )
    def test_kinds_may_be_mixed(self, kinds):
        problem = problem_of("dense", players=("cats", "dogs", "birds", "retain"))
        names = ("cats", "dogs", "birds")
        looks = {name: Lookahead(STEP, curvature=kind) for name, kind in zip(names, kinds, strict=True)}
        expected = []
        for name in names:
            bargain = Bargain(problem.model, Sum((1.0, 0.0)), lookahead={name: looks[name]})
            players = problem.players()
            bargain.backward(**{name: players[name], "retain": players["retain"]})
            expected.append((1.0, taken(problem)))
        Bargain(problem.model, Sum((1.0, 1.0, 1.0, 0.0)), lookahead=looks).backward(**problem.players())
        assert_same(taken(problem), weighted(*expected))

    @pytest.mark.parametrize("curvature", ["exact", "finite-difference"])
    def test_both_may_look_past_each_other(self, curvature):
        problem = problem_of("convolutional")
        expected = weighted(
            (0.4, problem.composed("forget", "retain")), (0.6, problem.composed("retain", "forget", step=0.2))
        )
        looks = {"forget": Lookahead(STEP, curvature=curvature), "retain": Lookahead(0.2, "forget", curvature)}
        Bargain(problem.model, Sum((0.4, 0.6)), lookahead=looks).backward(**problem.players())
        assert_same(taken(problem), expected, 1e-9 if curvature == "exact" else 1e-6)

    def test_players_may_look_in_a_chain(self):
        # Past the plain step of one that looks ahead itself.
        problem = problem_of("dense", players=("forget", "middle", "retain"))
        expected = weighted(
            (1.0, problem.composed("forget", "middle")),
            (2.0, problem.composed("middle", "retain")),
            (3.0, problem.plain("retain")),
        )
        looks = {"forget": Lookahead(STEP, "middle"), "middle": Lookahead(STEP)}
        Bargain(problem.model, Sum((1, 2, 3)), lookahead=looks).backward(**problem.players())
        assert_same(taken(problem), expected)

    def test_parameters_that_one_player_does_not_touch(self):
        # The Hessian reaches what the looking player itself does not, and the other way round.
        shared, inner, outer = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.0, 2.0, 3.0))
        bargain = Bargain([shared, inner, outer], Sum((1.0, 0.0)), lookahead={"forget": Lookahead(0.1)})
        bargain.backward(forget=lambda: shared**2 * outer, retain=lambda: shared * inner)
        moved = 1.0 - 0.1 * 2.0
        v = 2 * moved * 3.0
        assert (shared.grad.item(), outer.grad.item()) == pytest.approx((v, moved**2))
        assert inner.grad.item() == pytest.approx(-0.1 * v)

    @pytest.mark.parametrize("curvature", ["exact", "finite-difference", "none"])
    def test_an_inner_loss_without_curvature(self, curvature):
        x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        bargain = Bargain([x], Sum(), lookahead={"forget": Lookahead(0.5, curvature=curvature)})
        agreement = bargain.backward(forget=lambda: x.square().sum(), retain=lambda: 2 * x[0])
        assert x.grad.tolist() == [2.0, 4.0]
        if curvature != "none":
            assert agreement.curvature["forget"].share == 0
            assert agreement.curvature["forget"].error in (None, 0)

    def test_gradients_that_share_memory(self):
        # Autograd hands out one tensor for both parameters, and one number for many.
        x, y, z = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(3))
        bargain = Bargain([x, y, z], Sum((0.0, 3.0)), lookahead={"forget": Lookahead(0.1)})
        bargain.backward(forget=lambda: torch.sum(x * y * z), retain=lambda: (x + y).square().sum() + z.sum())
        assert (x.grad.tolist(), y.grad.tolist(), z.grad.tolist()) == ([12.0] * 3, [12.0] * 3, [3.0] * 3)

    def test_a_zero_gradient_abstains(self):
        x = torch.ones(3, dtype=torch.float64, requires_grad=True)
        for curvature in ("exact", "finite-difference"):
            bargain = Bargain([x], lookahead={"forget": Lookahead(0.1, curvature=curvature)})
            agreement = bargain.backward(forget=lambda: torch.sum(0 * x), retain=lambda: x.square().sum())
            assert agreement.weights[0] == 0
            assert agreement.curvature["forget"].share == 0

    def test_weights_that_are_zero_can_be_displaced(self):
        x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        look = {"forget": Lookahead(0.1, curvature="finite-difference", difference=1e-3)}
        Bargain([x], Sum((1.0, 0.0)), lookahead=look).backward(forget=x.sum, retain=lambda: x.square().sum())
        assert_close(x.grad, torch.full_like(x, 0.8))

    @pytest.mark.parametrize(
        "rule",
        [Nash(), Sum((0.7, 1.5)), Weighting(lambda K: 1 / K.diagonal().sqrt())],
        ids=["nash", "sum", "weighting"],
    )
    def test_under_any_rule(self, problem, rule):
        gradients = [problem.composed("forget", "retain"), problem.plain("retain")]
        jacobian = torch.stack([torch.cat([g.flatten() for g in gradient]) for gradient in gradients])
        weights = rule(jacobian @ jacobian.T)
        agreement = Bargain(problem.model, rule, lookahead={"forget": Lookahead(STEP)}).backward(**problem.players())
        assert_close(agreement.weights, weights)
        assert_same(taken(problem), weighted(*zip(weights, gradients, strict=True)))

    def test_refuses_what_has_no_second_derivative(self):
        # Autograd itself leaves the part out, silently.
        class Once(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x.square()

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx, g):
                (x,) = ctx.saved_tensors
                return 2 * x * g

        x = torch.ones(3, requires_grad=True)
        bargain = Bargain([x], lookahead={"forget": Lookahead(0.1)})
        with pytest.raises(ModelError, match=r"'retain' cannot be differentiated.*once_differentiable.*'none'"):
            bargain.backward(forget=lambda: x.square().sum(), retain=lambda: Once.apply(x).square().sum())
        assert x.tolist() == [1.0] * 3
        assert x.grad is None

    def test_names_what_lacks_a_second_derivative(self, problem):
        model = torch.compile(problem.model, backend="aot_eager")
        x, y = problem.batches["retain"]
        bargain = Bargain(problem.model, lookahead={"forget": Lookahead(STEP)})
        with pytest.raises(ModelError, match=r"'retain' cannot be differentiated.* double backward.*not compiled"):
            bargain.backward(forget=lambda: problem.loss("forget"), retain=lambda: cross_entropy(model(x), y))
        assert all(p.grad is None for p in problem.parameters)


def test_first_order_is_the_gradient_at_the_shifted_point(problem):
    inner = problem.plain("retain")
    moved = {k: p - STEP * g for (k, p), g in zip(problem.named.items(), inner, strict=True)}
    loss = problem._at("forget", moved)
    expected = torch.autograd.grad(loss, moved.values())
    found, agreement = alone(problem, "forget", Lookahead(STEP, curvature="none"))
    assert_same(found, expected, 1e-12)
    assert agreement.losses[0].item() == pytest.approx(loss.item(), rel=1e-12)
    assert agreement.curvature == {}


class TestLeavesNoTrace:
    CURVATURES = ("exact", "finite-difference", "none")

    @pytest.mark.parametrize("curvature", CURVATURES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_parameters_keep_every_bit(self, curvature, dtype):
        problem = problem_of("dense", dtype=dtype)
        before = [p.detach().clone() for p in problem.parameters]
        pointers = [p.data_ptr() for p in problem.parameters]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The Hessian term")  # half precision is too coarse
            alone(problem, "forget", Lookahead(0.1, curvature=curvature))
        assert all(p.equal(b) for p, b in zip(problem.parameters, before, strict=True))
        assert [p.data_ptr() for p in problem.parameters] == pointers

    @pytest.mark.parametrize("curvature", CURVATURES)
    @pytest.mark.parametrize("given", ["module", "buffers"])
    def test_statistics_follow_plain_evaluations_only(self, curvature, given):
        problem = problem_of("convolutional", players=("forget", "other", "retain"))
        norm = problem.model[1]
        reference = [b.clone() for b in norm.buffers()]
        for name in ("retain", "other"):
            problem.loss(name)
        expected = [b.clone() for b in norm.buffers()]
        for b, value in zip(norm.buffers(), reference, strict=True):
            b.data.copy_(value)
        parameters, buffers = (problem.model, None) if given == "module" else (problem.parameters, norm.buffers())
        look = {"forget": Lookahead(STEP, curvature=curvature)}
        Bargain(parameters, Sum(), lookahead=look, buffers=buffers).backward(**problem.players())
        assert all(b.equal(value) for b, value in zip(norm.buffers(), expected, strict=True))
        assert norm.num_batches_tracked == 2

    def test_other_buffers_are_left_to_themselves(self):
        problem = problem_of("convolutional")
        Bargain(problem.parameters, lookahead={"forget": Lookahead(STEP)}).backward(**problem.players())
        assert problem.model[1].num_batches_tracked == 2

    @pytest.mark.parametrize("lookers", [("forget",), ("forget", "retain")])
    @pytest.mark.parametrize("curvature", CURVATURES)
    def test_when_a_closure_raises(self, curvature, lookers):
        problem = Problem(dropping(), (6,), players=("forget", "retain", "other"))
        look = {name: Lookahead(STEP, ORDERS[name], curvature) for name in lookers}
        calls, last = 0, -1

        def player(name):
            def loss():
                nonlocal calls
                calls += 1
                value = problem.loss(name)  # draws, and moves statistics
                if calls == last:
                    raise ZeroDivisionError
                return value

            return loss

        players = {name: player(name) for name in problem.batches}
        Bargain(problem.model, lookahead=look).backward(**players)
        total, held = calls, [torch.randn_like(p) for p in problem.parameters]
        assert total == (3 if len(lookers) == 1 else 5) + (
            2 * len(lookers) if curvature == "finite-difference" else 0
        )
        for k in range(1, total + 1):
            calls, last = 0, k
            for p, g in zip(problem.parameters, held, strict=True):
                p.grad = g
            before = [x.detach().clone() for x in (*problem.parameters, *problem.model.buffers(), *held)]
            state = torch.get_rng_state()
            with pytest.raises(ZeroDivisionError):
                Bargain(problem.model, lookahead=look).backward(**players)
            assert all(p.grad is g for p, g in zip(problem.parameters, held, strict=True))
            after = [*problem.parameters, *problem.model.buffers(), *held]
            assert all(a.equal(b) for a, b in zip(after, before, strict=True))
            assert torch.get_rng_state().equal(state)

    def test_when_the_rule_raises(self):
        problem = Problem(dropping(), (6,))
        state, mean = torch.get_rng_state(), problem.model[1].running_mean.clone()
        with pytest.raises(ZeroDivisionError):
            Bargain(problem.model, lambda K: 1 / 0, lookahead={"forget": Lookahead(STEP)}).backward(
                **problem.players()
            )
        assert torch.get_rng_state().equal(state)
        assert problem.model[1].running_mean.equal(mean)

    def test_gradient_hooks_see_the_passes(self, problem):
        # Sharded wrappers do their work there.
        passes = []
        for p in problem.parameters:
            p.register_post_accumulate_grad_hook(lambda _: passes.append(1))
        look = Lookahead(STEP, curvature="finite-difference", check_every=100)
        bargain = Bargain(problem.model, lookahead={"forget": look})
        bargain.backward(**problem.players())
        assert len(passes) == 4 * len(problem.parameters)  # two of them for the error estimate
        passes.clear()
        bargain.backward(**problem.players())
        assert len(passes) == 3 * len(problem.parameters)

    @pytest.mark.parametrize("curvature", ["exact", "none"])
    def test_an_autocast_around_the_step(self, curvature):
        # Its cache must not hand casts of the shifted weights to the next player, nor the other way round.
        problem = problem_of("dense", players=("forget", "other", "retain"), dtype=torch.float32)
        looks = {"forget": Lookahead(3.0, curvature=curvature)}
        bargain = Bargain(problem.model, Sum((1.0, 1.0, 0.1)), lookahead=looks)

        def player(name):
            def loss():
                with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                    return problem.loss(name)

            return loss

        bargain.backward(**{name: player(name) for name in problem.batches})
        expected = taken(problem)
        with torch.autocast("cpu", torch.bfloat16):
            bargain.backward(**problem.players())
        assert_same(taken(problem), expected, 0.02)


class TestCost:
    @pytest.mark.parametrize(
        ("curvature", "during"), [("exact", True), ("finite-difference", False), ("none", False)]
    )
    def test_graphs_live_no_longer_than_needed(self, curvature, during):
        problem = problem_of("convolutional", players=("forget", "again", "other", "retain"))
        alive: weakref.WeakSet = weakref.WeakSet()
        found = {}

        class Saved:
            def __init__(self, tensor):
                self.tensor = tensor
                alive.add(self)

        def player(name):
            def loss():
                found.setdefault(name, []).append(len(alive) > 0)
                return problem.loss(name)

            return loss

        looks = {name: Lookahead(STEP, curvature=curvature) for name in ("forget", "again")}
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            Bargain(problem.model, lookahead=looks).backward(**{name: player(name) for name in problem.batches})
        assert found.pop("forget") == found.pop("again") == [during]
        assert not any(any(times) for times in found.values())
        assert len(alive) == 0

    def test_the_inner_gradient_is_computed_once(self, problem):
        calls = []

        def retain():
            calls.append(1)
            return problem.loss("retain")

        looks = {"forget": Lookahead(STEP), "other": Lookahead(STEP, curvature="none")}
        Bargain(problem.model, lookahead=looks).backward(
            forget=lambda: problem.loss("forget"), other=lambda: problem.loss("forget"), retain=retain
        )
        assert len(calls) == 1

    def test_gradients_do_not_outlive_the_step(self, problem):
        alive: weakref.WeakSet = weakref.WeakSet()
        for p in problem.parameters:
            p.register_post_accumulate_grad_hook(lambda p: alive.add(p.grad))
        Bargain(problem.model, lookahead={"forget": Lookahead(STEP)}).backward(**problem.players())
        assert {id(g) for g in alive} <= {id(p.grad) for p in problem.parameters}


class TestFiniteDifference:
    @pytest.mark.parametrize("network", ["dense", "convolutional", "attention"])
    @pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-2), (torch.float64, 1e-5)])
    def test_agrees_with_the_exact_product(self, network, dtype, most):
        problem = problem_of(network, dtype=dtype)
        v, _ = alone(problem, "forget", Lookahead(STEP, curvature="none"))
        exact, _ = alone(problem, "forget", Lookahead(STEP))
        found, agreement = alone(problem, "forget", Lookahead(STEP, curvature="finite-difference"))
        assert distance(difference(v, found), difference(v, exact)) <= most
        assert agreement.curvature["forget"].error <= 2 * most

    @pytest.mark.parametrize("name", ["forget", "retain"])
    def test_draws_the_same_again(self, name):
        # Another dropout mask would change the gradient by far more than the displacement does.
        problem = Problem(dropping(), (6,), players=("forget", "retain"))
        found, states = [], []
        for curvature in ("exact", "finite-difference"):
            torch.manual_seed(3)
            found.append(alone(problem, name, Lookahead(STEP, ORDERS[name], curvature))[0])
            states.append(torch.get_rng_state())
        assert_same(found[1], found[0], 1e-5)
        assert states[0].equal(states[1])

    def test_sees_the_same_buffers_again(self):
        # In a network that uses its running statistics, which the plain evaluation moves.
        class Running(nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.enter, self.leave = nn.Linear(6, 6), nn.Linear(6, 4)
                self.register_buffer("seen", torch.zeros(6))

            def forward(self, x):
                hidden = self.enter(x).tanh()
                out = self.leave(hidden * (1 + self.seen))
                self.seen.data.lerp_(hidden.detach().mean(0), 0.5)
                return out

        problem = Problem(Running(), (6,))
        found = []
        for curvature in ("exact", "finite-difference"):
            problem.model.seen.zero_()
            found.append(alone(problem, "forget", Lookahead(STEP, curvature=curvature))[0])
        assert_same(found[1], found[0], 1e-6)

    def test_estimates_its_error_at_the_first_step_and_then_now_and_then(self, problem):
        look = Lookahead(STEP, curvature="finite-difference", check_every=3)
        bargain = Bargain(problem.model, lookahead={"forget": look})
        found = []
        for step in range(7):
            players = problem.players()
            if step == 3:  # the player is absent: not one of its steps
                players["forget"] = None
            agreement = bargain.backward(**players)
            found.append("forget" in agreement.curvature and agreement.curvature["forget"].error is not None)
            assert ("forget_hessian_error" in agreement.numbers()) == found[-1]
            assert ("forget_hessian_share" in agreement.numbers()) == (step != 3)
        assert found == [True, False, False, False, True, False, False]

    @pytest.mark.parametrize("displacement", [1e-4, 1e-2, 0.05])
    @pytest.mark.parametrize("network", ["dense", "convolutional", "attention"])
    def test_the_estimate_is_about_right(self, network, displacement):
        problem = problem_of(network)
        v, _ = alone(problem, "forget", Lookahead(STEP, curvature="none"))
        exact, _ = alone(problem, "forget", Lookahead(STEP))
        look = Lookahead(STEP, curvature="finite-difference", difference=displacement)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The Hessian term")
            found, agreement = alone(problem, "forget", look)
        error = distance(difference(v, found), difference(v, exact))
        assert agreement.curvature["forget"].error.item() == pytest.approx(error, rel=0.3)

    def test_warns_once_where_differences_do_not_settle(self, problem):
        look = Lookahead(STEP, curvature="finite-difference", difference=1.0, check_every=1)
        bargain = Bargain(problem.model, lookahead={"forget": look})
        with pytest.warns(UserWarning, match=r"Hessian term of player 'forget' .* about \d.*'retain' .*'exact'"):
            bargain.backward(**problem.players())
        assert bargain.backward(**problem.players()).curvature["forget"].error > 0.1

    def test_warns_in_half_precision(self):
        problem = problem_of("dense", dtype=torch.float32)
        look = Lookahead(STEP, curvature="finite-difference")
        with torch.autocast("cpu", torch.bfloat16), pytest.warns(UserWarning, match="or more precision"):
            alone(problem, "forget", look)


class TestKinks:
    def test_are_refused_before_anything_moved(self):
        problem = problem_of("kinked")
        held = torch.ones_like(problem.parameters[0])
        problem.parameters[0].grad = held
        calls = []

        def forget():
            calls.append(1)
            return problem.loss("forget")

        look = {"forget": Lookahead(STEP, curvature="finite-difference")}
        bargain = Bargain(problem.model, lookahead=look)
        for _ in range(2):
            with pytest.raises(
                ModelError, match=r"'retain' .*\(MaxPool2DWithIndices, Relu\), and 'forget' .*'exact'"
            ):
                bargain.backward(forget=forget, retain=lambda: problem.loss("retain"))
        assert not calls
        assert problem.parameters[0].grad is held
        assert problem.parameters[1].grad is None
        assert problem.model[1].num_batches_tracked == 0

    def test_are_warned_of_once(self):
        problem = problem_of("kinked")
        look = {"forget": Lookahead(STEP, curvature="finite-difference", kinks="warn", check_every=1)}
        bargain = Bargain(problem.model, lookahead=look)
        with pytest.warns(UserWarning, match=r"\(MaxPool2DWithIndices, Relu\), and 'forget'") as caught:
            bargain.backward(**problem.players())
        assert len(caught) == 1
        assert bargain.backward(**problem.players()).curvature["forget"].error is not None

    @pytest.mark.parametrize("curvature", ["exact", "none"])
    def test_are_nobody_elses_business(self, curvature):
        problem = problem_of("kinked")
        alone(problem, "forget", Lookahead(STEP, curvature=curvature))

    def test_of_the_looking_player_do_not_matter(self):
        x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        look = {"forget": Lookahead(0.1, curvature="finite-difference")}
        Bargain([x], lookahead=look).backward(forget=lambda: x.relu().sum(), retain=lambda: x.square().sum())

    def test_are_looked_for_when_the_player_first_looks(self):
        # Not at the first step of all, when it was absent.
        problem = problem_of("kinked")
        bargain = Bargain(problem.model, lookahead={"forget": Lookahead(STEP, curvature="finite-difference")})
        bargain.backward(forget=None, retain=lambda: problem.loss("retain"))
        with pytest.raises(ModelError, match="slope jumps"):
            bargain.backward(**problem.players())

    def test_in_compiled_code_only_the_estimate_speaks(self):
        class Opaque(torch.autograd.Function):
            """As compiled code: one node of its own."""

            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x.relu()

            @staticmethod
            def backward(ctx, g):
                return g * (ctx.saved_tensors[0] > 0)

        torch.manual_seed(0)
        enter, leave = nn.Linear(6, 200), nn.Linear(200, 4)

        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.enter, self.leave = enter, leave

            def forward(self, x):
                return self.leave(Opaque.apply(self.enter(x)))

        problem = Problem(Network(), (6,))
        look = Lookahead(STEP, curvature="finite-difference", difference=0.03)
        with pytest.warns(UserWarning, match="do not settle"):
            alone(problem, "forget", look)


class TestAbsentPlayers:
    def test_a_player_whose_inner_player_is_absent_is_plain(self, problem):
        expected = problem.plain("forget")
        bargain = Bargain(problem.model, Sum(), lookahead={"forget": Lookahead(STEP)})
        agreement = bargain.backward(forget=lambda: problem.loss("forget"), retain=None)
        assert_same(taken(problem), expected)
        assert agreement.curvature == {}

    def test_an_absent_player_does_not_look(self, problem):
        expected = problem.plain("retain")
        bargain = Bargain(problem.model, Sum(), lookahead={"forget": Lookahead(STEP)})
        bargain.backward(forget=None, retain=lambda: problem.loss("retain"))
        assert_same(taken(problem), expected)


class TestFaults:
    @pytest.mark.parametrize(
        ("settings", "messages"),
        [
            ({"step": 0.0}, ["`step` must be positive and finite, found 0.0"]),
            ({"step": math.inf}, ["found inf"]),
            ({"step": math.nan}, ["found nan"]),
            ({"step": 0.1, "curvature": "full"}, ["exact, finite-difference, none, found 'full'"]),
            ({"step": 0.1, "kinks": "ignore"}, ["refuse, warn, found 'ignore'"]),
            ({"step": 0.1, "difference": 0.0}, ["`difference` must be positive"]),
            ({"step": 0.1, "check_every": 0}, ["`check_every` must be at least 1"]),
            ({"step": -1.0, "curvature": "", "kinks": ""}, ["`step`", "`curvature`", "`kinks`"]),
        ],
    )
    def test_settings(self, settings, messages):
        with pytest.raises(InvalidInputError) as error:
            Lookahead(**settings)
        assert all(message in str(error.value) for message in messages)

    def test_looking_past_oneself(self, problem):
        looks = {"retain": Lookahead(0.1), "forget": 0.1}
        with pytest.raises(
            InvalidInputError, match=r"'retain' looks past itself.*; `lookahead\['forget'\]` .* float"
        ):
            Bargain(problem.model, lookahead=looks)

    def test_scaled_losses(self, problem):
        looks = {"forget": Lookahead(0.1)}
        with pytest.raises(PrecisionError, match="bfloat16"):
            Bargain(problem.model, lookahead=looks, scaler=torch.amp.GradScaler("cpu"))
        Bargain(problem.model, lookahead=looks, scaler=torch.amp.GradScaler("cpu", enabled=False))

    @pytest.mark.parametrize(
        ("looks", "message"),
        [
            ({"forgot": Lookahead(0.1)}, "no player 'forgot' to look ahead.*: forget, retain"),
            ({"forget": Lookahead(0.1, "keep")}, "'forget' looks past 'keep', who does not play.*: forget, retain"),
        ],
    )
    def test_names_of_no_player(self, problem, looks, message):
        with pytest.raises(InvalidInputError, match=message):
            Bargain(problem.model, lookahead=looks).backward(**problem.players())
        assert all(p.grad is None for p in problem.parameters)

    @pytest.mark.parametrize("curvature", ["exact", "finite-difference"])
    def test_an_inner_loss_of_something_else(self, problem, curvature):
        other = torch.ones((), requires_grad=True)
        look = {"forget": Lookahead(0.1, curvature=curvature)}
        with pytest.raises(LossError, match="'retain' does not depend on any"):
            Bargain(problem.model, lookahead=look).backward(
                forget=lambda: problem.loss("forget"), retain=lambda: torch.square(other)
            )
