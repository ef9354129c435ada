"""Bargain.backward: the agreed update in ``p.grad``, at the cost of one backward pass a player."""

import math
import weakref
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from amnesty.bargaining import Agreement, Bargain, Nash, PublishedNash, Sum, Weighting
from amnesty.errors import InvalidInputError, LossError, ModelError, NonFiniteError, PrecisionError, ShapeError
from tests.bargaining.samples import generator


class Problem:
    """A small network, and a batch for each of its players."""

    def __init__(self, model, inputs, device, dtype=torch.float32, players=("forget", "retain")):
        self.model = model.to(device, dtype)
        draw = generator(1)
        self.batches = {
            name: (
                torch.randn(8, *inputs, generator=draw).to(device, dtype),
                torch.randint(4, (8,), generator=draw).to(device),
            )
            for name in players
        }

    @property
    def parameters(self):
        return list(self.model.parameters())

    def loss(self, name, rows=slice(None)):
        x, y = self.batches[name]
        return cross_entropy(self.model(x[rows]), y[rows])

    def players(self):
        return {name: lambda name=name: self.loss(name) for name in self.batches}

    def gradients(self):
        """The players' gradients in float64, each a list with ``None`` for what it does not touch."""
        live = [p for p in self.parameters if p.requires_grad]
        found = [torch.autograd.grad(self.loss(name), live, allow_unused=True) for name in self.batches]
        return [[None if g is None else g.double() for g in gradient] for gradient in found]

    def by_hand(self, rule, masks=None):
        """The weights and the update, from flattened copies in float64."""
        live = [p for p in self.parameters if p.requires_grad]
        masks = masks or [torch.ones_like(p, dtype=torch.bool) for p in live]
        jacobian = torch.stack(
            [
                torch.cat(
                    [
                        (torch.zeros_like(p, dtype=torch.float64) if g is None else g * m).flatten()
                        for p, g, m in zip(live, gradient, masks, strict=True)
                    ]
                )
                for gradient in self.gradients()
            ]
        )
        weights = rule(jacobian @ jacobian.T)
        return weights, (weights @ jacobian).split([p.numel() for p in live])


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4))


def convolutional(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.Tanh(), nn.Conv2d(6, 5, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(5, 4),
    )  # fmt: skip


@pytest.fixture
def problem(device, dtype):
    return Problem(linear(), (6,), device, dtype)


def assert_update(parameters, update, **tolerance):
    tolerance = tolerance or {"rtol": 1e-4, "atol": 1e-6}
    live = [p for p in parameters if p.requires_grad]
    for p, expected in zip(live, update, strict=True):
        assert_close(p.grad.double().flatten(), expected, **tolerance)


def scalars(*values):
    """Leaves of one number each."""
    return [torch.tensor(float(v), requires_grad=True) for v in values]


RULES = {
    "nash": Nash(),
    "powers": Nash((0.3, 2.0), length="nash"),
    "fading": Nash(length="fading"),
    "sum": Sum((0.7, 1.5)),
    "published": PublishedNash(),
}


class TestUpdate:
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_is_the_weighted_sum_of_the_gradients(self, problem, rule):
        weights, update = problem.by_hand(rule)
        agreement = Bargain(problem.parameters, rule).backward(**problem.players())
        assert_update(problem.parameters, update)
        assert_close(agreement.weights, weights, rtol=1e-4, atol=1e-6)

    def test_of_five_players(self, device, dtype):
        problem = Problem(linear(), (6,), device, dtype, players=("a", "b", "c", "d", "retain"))
        _, update = problem.by_hand(Nash())
        Bargain(problem.parameters).backward(**problem.players())
        assert_update(problem.parameters, update)

    def test_of_one_player_is_its_unit_gradient(self, problem):
        Bargain(problem.parameters).backward(retain=lambda: problem.loss("retain"))
        length = math.sqrt(sum(p.grad.double().square().sum().item() for p in problem.parameters))
        assert length == pytest.approx(1.0, rel=1e-5)

    def test_adds_to_what_is_there(self, problem):
        _, update = problem.by_hand(Nash())
        there = [torch.randn(p.shape, generator=generator(3)).to(p) for p in problem.parameters]
        for p, g in zip(problem.parameters, there, strict=True):
            p.grad = g.clone()
        agreement = Bargain(problem.parameters).backward(**problem.players())
        assert_update(problem.parameters, [u + g.double().flatten() for u, g in zip(update, there, strict=True)])
        assert agreement.length.item() == pytest.approx(1.0, rel=1e-4)

    def test_of_micro_batches_is_that_of_the_whole_batch(self, problem):
        _, update = problem.by_hand(Nash())
        parts = [slice(0, 2), slice(2, 5), slice(5, 8)]

        def part(name, rows):
            return lambda: problem.loss(name, rows) * (rows.stop - rows.start) / 8

        players = {name: [part(name, rows) for rows in parts] for name in problem.batches}
        agreement = Bargain(problem.parameters).backward(**players)
        assert_update(problem.parameters, update)
        whole = torch.stack([problem.loss(name) for name in problem.batches]).double()
        assert_close(agreement.losses, whole, rtol=1e-5, atol=0)

    def test_accepts_a_loss_of_shape_one(self):
        (x,) = scalars(2.0)
        Bargain([x], Sum()).backward(retain=lambda: (x * x).reshape(1))
        assert x.grad.item() == 4.0

    def test_tells_what_was_agreed(self, problem):
        losses = [problem.loss(name).item() for name in problem.batches]
        flat = torch.stack([torch.cat([g.flatten() for g in gradient]) for gradient in problem.gradients()])
        agreement = Bargain(problem.parameters, Nash(length="nash")).backward(**problem.players())
        assert isinstance(agreement, Agreement)
        assert agreement.players == ("forget", "retain")
        assert agreement.losses.tolist() == pytest.approx(losses)
        assert_close(agreement.gramian, flat @ flat.T, rtol=1e-4, atol=1e-7)
        assert_close(agreement.norms, flat.norm(dim=1), rtol=1e-4, atol=0)
        assert_close(
            agreement.cosines, nn.functional.cosine_similarity(flat[:, None], flat, dim=2), rtol=0, atol=1e-5
        )
        assert agreement.length.item() == pytest.approx(math.sqrt(2), rel=1e-5)
        assert not agreement.stationary
        for tensor in (agreement.losses, agreement.gramian, agreement.weights):
            assert tensor.dtype == torch.float64
            assert not tensor.requires_grad
        agreement.check_finite()


class TestWhatMoves:
    def test_frozen_parameters_are_left_alone(self, problem):
        first = problem.parameters[0]
        first.requires_grad_(False)
        _, update = problem.by_hand(Nash())
        Bargain(problem.parameters).backward(**problem.players())
        assert first.grad is None
        assert_update(problem.parameters, update)

    def test_what_is_frozen_is_looked_up_at_each_step(self, problem):
        first, last = problem.parameters[0], problem.parameters[-1]
        bargain = Bargain(problem.parameters)
        bargain.backward(**problem.players())
        assert first.grad is not None
        problem.model.zero_grad()
        first.requires_grad_(False)
        bargain.backward(**problem.players())
        assert first.grad is None
        assert last.grad is not None

    def test_parameters_that_are_not_bargained_over_get_no_gradient(self, problem):
        Bargain(problem.parameters[2:]).backward(**problem.players())
        assert [p.grad is None for p in problem.parameters] == [True, True, False, False]

    def test_a_module_stands_for_its_parameters(self, problem):
        Bargain(problem.parameters, Nash()).backward(**problem.players())
        expected = [p.grad for p in problem.parameters]
        for p in problem.parameters:
            p.grad = None
        Bargain(problem.model, Nash()).backward(**problem.players())
        assert all(p.grad.equal(g) for p, g in zip(problem.parameters, expected, strict=True))
        with pytest.raises(ModelError, match="None of the 0"):
            Bargain(nn.ReLU())

    def test_a_parameter_that_no_player_touches_keeps_its_gradient(self):
        x, y, untouched, held = scalars(1, 2, 3, 4)
        held.grad = torch.tensor(7.0)
        Bargain([x, y, untouched, held], Sum()).backward(forget=lambda: 2 * x, retain=lambda: x + 3 * y)
        assert (x.grad.item(), y.grad.item(), untouched.grad, held.grad.item()) == (3.0, 3.0, None, 7.0)

    def test_a_parameter_that_one_player_touches(self):
        shared, forgets, retains = scalars(1, 1, 1)
        agreement = Bargain([shared, forgets, retains], Nash(length="nash")).backward(
            forget=lambda: 3 * shared + 4 * forgets, retain=lambda: 4 * shared + 3 * retains
        )
        weight = 1 / (5 * math.sqrt(1 + 12 / 25))
        assert agreement.gramian.tolist() == [[25.0, 12.0], [12.0, 25.0]]
        assert shared.grad.item() == pytest.approx(7 * weight)
        assert forgets.grad.item() == pytest.approx(4 * weight)
        assert retains.grad.item() == pytest.approx(3 * weight)

    def test_tied_weights_count_once(self, device, dtype):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.once, self.twice = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
                self.twice.weight = self.once.weight

            def forward(self, x):
                return self.twice(self.once(x).tanh())[:, :4]

        problem = Problem(Tied(), (6,), device, dtype)
        weights, update = problem.by_hand(Nash())
        agreement = Bargain([problem.model.once.weight, problem.model.twice.weight]).backward(**problem.players())
        assert_close(agreement.weights, weights, rtol=1e-4, atol=0)
        assert_update(problem.parameters, update)

    def test_masked_coordinates_take_no_part(self, problem):
        masks = [torch.rand(p.shape, generator=generator(5)).to(p) < 0.5 for p in problem.parameters]
        weights, update = problem.by_hand(Nash(), masks)
        free, _ = problem.by_hand(Nash())
        agreement = Bargain(problem.parameters, masks=masks).backward(**problem.players())
        assert_close(agreement.weights, weights, rtol=1e-4, atol=0)
        assert not torch.allclose(agreement.weights, free, rtol=1e-2)
        assert_update(problem.parameters, update)
        assert all((p.grad[~mask] == 0).all() for p, mask in zip(problem.parameters, masks, strict=True))

    def test_some_parameters_may_have_no_mask(self, problem):
        mask = torch.zeros_like(problem.parameters[0], dtype=torch.bool)
        Bargain(problem.parameters, Sum(), masks=[mask, None, None, None]).backward(**problem.players())
        assert not problem.parameters[0].grad.any()
        assert problem.parameters[2].grad.any()


class TestAbsentPlayers:
    """A player without a batch in this step is ``None``."""

    RULES: ClassVar = {
        "sum": Sum((0.1, 0.2, 1.0)),
        "nash": Nash((1.0, 2.0, 3.0)),
        "weighting": Weighting(lambda K: 1 / K.diagonal()),
        "own": lambda K: torch.tensor([1.0, 2.0, 3.0]),
    }

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    @pytest.mark.parametrize("absent", [{"cats"}, {"dogs"}, {"retain"}, {"cats", "retain"}])
    def test_abstain(self, device, dtype, rule, absent):
        problem = Problem(linear(), (6,), device, dtype, players=("cats", "dogs", "retain"))
        players, gradients = problem.players(), problem.gradients()
        jacobian = torch.stack(
            [
                torch.cat([g.flatten() for g in gradient]) * (name not in absent)
                for name, gradient in zip(players, gradients, strict=True)
            ]
        )
        weights = rule(jacobian @ jacobian.T).double()
        present = [name not in absent for name in players]
        agreement = Bargain(problem.model, rule).backward(**players | dict.fromkeys(absent))
        assert agreement.players == tuple(name for name in players if name not in absent)
        assert_close(agreement.weights, weights[present], rtol=1e-4, atol=1e-6)
        assert agreement.gramian.shape == (sum(present),) * 2
        assert_close(agreement.gramian, (jacobian @ jacobian.T)[present][:, present], rtol=1e-4, atol=1e-7)
        assert len(agreement.losses) == sum(present)
        assert agreement.numbers().keys() >= {f"{name}_weight" for name in agreement.players}
        assert_update(problem.parameters, (weights @ jacobian).split([p.numel() for p in problem.parameters]))

    def test_the_retaining_player_moves_alone_all_the_same(self):
        x = torch.ones(4, requires_grad=True)
        agreement = Bargain([x]).backward(cats=(3 * x).sum, dogs=None, retain=(-2 * x).sum)
        assert agreement.stationary
        assert agreement.weights.tolist() == pytest.approx([0.0, 0.25])
        assert_close(x.grad, torch.full((4,), -0.5))

    def test_nobody_is_there(self, problem):
        with pytest.raises(InvalidInputError, match="at least one player.*All of forget, retain are `None`"):
            Bargain(problem.model).backward(forget=None, retain=None)

    def test_graphs_are_looked_into_when_a_player_first_comes(self, problem):
        *body, head = problem.model
        x, y = problem.batches["retain"]

        def loss():
            hidden = checkpoint(nn.Sequential(*body), x.clone().requires_grad_(), use_reentrant=True)
            return cross_entropy(head(hidden), y)

        bargain = Bargain(problem.model)
        bargain.backward(forget=lambda: problem.loss("forget"), retain=None)
        with pytest.raises(LossError, match="use_reentrant=False"):
            bargain.backward(forget=lambda: problem.loss("forget"), retain=loss)


class TestPrecisionAndLayout:
    @pytest.mark.parametrize("n", [2, 3])
    def test_channels_last(self, n, device, dtype):
        names = ("retain", "cats", "dogs")[:n]
        plain = Problem(convolutional(), (3, 8, 8), device, dtype, names)
        fast = Problem(convolutional().to(memory_format=torch.channels_last), (3, 8, 8), device, dtype, names)
        fast.batches = {name: (x.to(memory_format=torch.channels_last), y) for name, (x, y) in plain.batches.items()}
        _, update = plain.by_hand(Nash())
        Bargain(fast.parameters).backward(**fast.players())
        assert_update(fast.parameters, update)
        assert fast.parameters[4].grad.is_contiguous(memory_format=torch.channels_last)

    def test_float64(self, device):
        problem = Problem(linear(), (6,), device, torch.float64)
        _, update = problem.by_hand(Nash())
        Bargain(problem.parameters).backward(**problem.players())
        assert_update(problem.parameters, update, rtol=1e-10, atol=1e-14)

    def test_bfloat16_parameters(self, device):
        problem = Problem(linear(), (6,), device, torch.bfloat16)
        _, update = problem.by_hand(Nash())
        Bargain(problem.parameters).backward(**problem.players())
        assert all(p.grad.dtype == torch.bfloat16 for p in problem.parameters)
        assert_update(problem.parameters, update, rtol=0.02, atol=1e-3)

    @pytest.mark.parametrize("around", ["each player", "the step"])
    def test_bfloat16_autocast(self, problem, device, around):
        exact, _ = problem.by_hand(Nash())

        def autocast(where):
            return torch.autocast(device.type, torch.bfloat16, enabled=around == where)

        def player(name):
            def loss():
                with autocast("each player"):
                    return problem.loss(name)

            return loss

        with autocast("the step"):
            agreement = Bargain(problem.parameters).backward(**{name: player(name) for name in problem.batches})
        assert all(p.grad.dtype == p.dtype for p in problem.parameters)
        assert_close(agreement.weights, exact, rtol=0.03, atol=0)
        assert agreement.length.item() == pytest.approx(1.0, rel=1e-6)

    def test_refuses_float16_parameters(self):
        with pytest.raises(PrecisionError, match="Keep float32 weights"):
            Bargain([torch.zeros(2, dtype=torch.float16, requires_grad=True)])
        # A frozen one is none of its business.
        Bargain([torch.zeros(2, dtype=torch.float16), torch.zeros(2, requires_grad=True)])


class TestGradScaler:
    @staticmethod
    def scaler(device, scale=2.0**16, enabled=True):
        return torch.amp.GradScaler(device.type, init_scale=scale, enabled=enabled)

    @staticmethod
    def halved(problem, device):
        """Players whose forward pass runs in float16."""

        def player(name):
            def loss():
                with torch.autocast(device.type, torch.float16):
                    return problem.loss(name)

            return loss

        return {name: player(name) for name in problem.batches}

    def test_update_after_unscaling_is_the_update(self, problem, device):
        _, update = problem.by_hand(Nash())
        optimizer = torch.optim.SGD(problem.parameters, lr=0.1)
        scaler = self.scaler(device)
        agreement = Bargain(problem.parameters, scaler=scaler).backward(**problem.players())
        length = math.sqrt(sum(p.grad.double().square().sum().item() for p in problem.parameters))
        assert length == pytest.approx(2.0**16, rel=1e-5)
        scaler.unscale_(optimizer)
        assert_update(problem.parameters, update)
        assert agreement.losses.tolist() == pytest.approx([problem.loss(n).item() for n in problem.batches])
        assert agreement.length.item() == pytest.approx(1.0, rel=1e-5)

    def test_float16_autocast(self, problem, device):
        exact, update = problem.by_hand(Nash())
        optimizer = torch.optim.SGD(problem.parameters, lr=0.1)
        scaler = self.scaler(device, 2.0**10)
        agreement = Bargain(problem.parameters, scaler=scaler).backward(**self.halved(problem, device))
        scaler.unscale_(optimizer)
        assert_close(agreement.weights, exact, rtol=0.01, atol=0)
        assert_update(problem.parameters, update, rtol=0.02, atol=2e-3)

    def test_saves_gradients_that_float16_would_lose(self, problem, device):
        # With losses of 1e-6, the backward pass through float16 activations gives zeros without a scale.
        exact, _ = problem.by_hand(Nash())

        def tiny(scaler):
            players = self.halved(problem, device)
            small = {name: lambda player=player: 1e-6 * player() for name, player in players.items()}
            return Bargain(problem.parameters, scaler=scaler).backward(**small)

        expected = exact * 1e6
        assert_close(tiny(self.scaler(device, 2.0**24)).weights, expected, rtol=0.05, atol=0)
        assert not torch.allclose(tiny(None).weights, expected, rtol=0.05)

    def test_overflow_skips_the_step_and_lowers_the_scale(self, problem, device):
        optimizer = torch.optim.SGD(problem.parameters, lr=0.1)
        scaler = self.scaler(device, 2.0**30)
        before = [p.detach().clone() for p in problem.parameters]
        agreement = Bargain(problem.parameters, scaler=scaler).backward(**self.halved(problem, device))
        assert not agreement.weights.isfinite().any()
        scaler.step(optimizer)
        scaler.update()
        assert all(torch.equal(p, held) for p, held in zip(problem.parameters, before, strict=True))
        assert scaler.get_scale() == 2.0**29

    def test_a_disabled_scaler_does_nothing(self, problem, device):
        _, update = problem.by_hand(Nash())
        Bargain(problem.parameters, scaler=self.scaler(device, enabled=False)).backward(**problem.players())
        assert_update(problem.parameters, update)

    def test_noise_is_scaled_too(self, device):
        x = torch.ones(5, requires_grad=True, device=device)
        Bargain([x], Nash(when_stationary="noise"), scaler=self.scaler(device)).backward(
            forget=x.sum, retain=lambda: -x.sum()
        )
        assert x.grad.norm().item() == pytest.approx(2.0**16)


class TestCost:
    def test_one_backward_pass_a_player(self, problem):
        passes = []
        for p in problem.parameters:
            p.register_post_accumulate_grad_hook(lambda _: passes.append(1))
        Bargain(problem.parameters).backward(**problem.players(), third=lambda: problem.loss("retain").square())
        assert len(passes) == 3 * len(problem.parameters)

    @pytest.mark.parametrize("parts", [1, 3])
    def test_one_graph_at_a_time(self, problem, parts):
        alive: weakref.WeakSet = weakref.WeakSet()
        found = []

        class Saved:
            def __init__(self, tensor):
                self.tensor = tensor
                alive.add(self)

        def player(name):
            def loss():
                found.append(len(alive))
                value = problem.loss(name)
                assert len(alive) > 0
                return value

            return loss

        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            players = {name: [player(name)] * parts for name in ("forget", "retain")}
            Bargain(problem.parameters).backward(**players)
        assert found == [0] * (2 * parts)
        assert len(alive) == 0

    def test_one_copy_of_the_gradient_beyond_the_update(self, problem):
        # Neither the players' gradients nor anything else outlives the step, but the update.
        alive: weakref.WeakSet = weakref.WeakSet()
        for p in problem.parameters:
            p.register_post_accumulate_grad_hook(lambda p: alive.add(p.grad))
        agreement = Bargain(problem.parameters).backward(**problem.players())
        kept = {id(g) for g in alive}
        assert kept == {id(p.grad) for p in problem.parameters}
        assert agreement.players == ("forget", "retain")

    def test_the_rule_is_asked_once_where_the_players_agree(self, problem):
        asked = []

        def equal(matrix):
            asked.append(matrix)
            return torch.ones(len(matrix))

        Bargain(problem.parameters, Weighting(equal)).backward(**problem.players())
        assert len(asked) == 1


class TestFaults:
    """Whatever is wrong is named, and ``p.grad`` is as before."""

    @pytest.mark.parametrize(
        ("player", "error", "message"),
        [
            (lambda x: lambda: x, LossError, r"'bad' must be a scalar tensor, found shape \[3\]"),
            (lambda x: lambda: 1.0, LossError, "'bad' must be a scalar tensor, found float"),
            (lambda x: lambda: None, LossError, "found NoneType"),
            (lambda x: lambda: x.sum().detach(), LossError, "'bad' has no gradient"),
            (lambda x: lambda: (x.sum(), x.sum()), LossError, "found tuple"),
            (lambda x: lambda: torch.ones(3, requires_grad=True).sum(), LossError, "'bad' does not depend on any"),
            (lambda x: [x.sum, lambda: x], LossError, "scalar"),
            (lambda x: lambda: 1 / 0, ZeroDivisionError, "division by zero"),
            (lambda x: x.sum(), InvalidInputError, "'bad' must be a function .* found Tensor"),
            (lambda x: [], InvalidInputError, "non-empty list of them, found list"),
            (lambda x: [x.sum()], InvalidInputError, "must be a function"),
            (lambda x: 3, InvalidInputError, "found int"),
        ],
    )
    @pytest.mark.parametrize("first", [True, False])
    def test_a_player_that_cannot_play(self, player, error, message, first):
        x = torch.ones(3, requires_grad=True)
        held = torch.arange(3.0)
        x.grad = held
        players = {"bad": player(x), "retain": lambda: x.square().sum()}
        players = players if first else dict(reversed(players.items()))
        with pytest.raises(error, match=message):
            Bargain([x]).backward(**players)
        assert x.grad is held
        assert held.tolist() == [0.0, 1.0, 2.0]

    @pytest.mark.parametrize(
        ("rule", "error"),
        [
            (lambda K: 1 / 0, ZeroDivisionError),
            (lambda K: torch.ones(3), ShapeError),
            (lambda K: [1.0, 1.0], ShapeError),
            (Nash((1.0, 2.0, 3.0)), ShapeError),
        ],
    )
    def test_a_rule_that_cannot_rule(self, rule, error):
        (x,) = scalars(1.0)
        with pytest.raises(error):
            Bargain([x], rule).backward(forget=lambda: x, retain=lambda: 2 * x)
        assert x.grad is None

    def test_no_player(self):
        with pytest.raises(InvalidInputError, match="at least one player"):
            Bargain(scalars(1.0)).backward()

    def test_nothing_to_move(self, problem):
        for p in problem.parameters:
            p.requires_grad_(False)
        with pytest.raises(ModelError, match="None of the 4"):
            Bargain(problem.parameters)
        with pytest.raises(ModelError, match="None of the 0"):
            Bargain([])

    def test_nothing_to_move_any_more(self, problem):
        bargain = Bargain(problem.parameters)
        for p in problem.parameters:
            p.requires_grad_(False)
        with pytest.raises(ModelError, match="requires a gradient"):
            bargain.backward(**problem.players())

    @pytest.mark.parametrize(
        ("masks", "error", "message"),
        [
            ([], ShapeError, "0 entries for 1 parameters"),
            ([torch.ones(2, dtype=torch.bool)], ShapeError, r"`masks\[0\]` must be a bool tensor of shape \[3\]"),
            ([torch.ones(3)], ShapeError, "found torch.float32"),
            ([torch.zeros(3, dtype=torch.bool)], ModelError, "mask"),
        ],
    )
    def test_masks_that_do_not_fit(self, masks, error, message):
        with pytest.raises(error, match=message):
            Bargain([torch.ones(3, requires_grad=True)], masks=masks)

    def test_non_finite_numbers_are_named(self):
        def agreement(forget, retain):
            (x,) = scalars(0.0)
            return Bargain([x]).backward(forget=lambda: forget(x), retain=lambda: retain(x))

        def good(x):
            return 2 * x

        with pytest.raises(NonFiniteError, match=r"^the loss of player 'forget' is nan\.$"):
            agreement(lambda x: x * math.nan, good).check_finite()
        with pytest.raises(NonFiniteError, match=r"^the loss of player 'retain' is inf\.$"):
            agreement(good, lambda x: x + math.inf).check_finite()
        # The square root of 0 is finite, its slope is not.
        with pytest.raises(NonFiniteError, match=r"^the gradient of player 'retain' has a squared length of inf\.$"):
            agreement(good, torch.sqrt).check_finite()
        with pytest.raises(NonFiniteError, match="player 'forget' is -inf; the gradient of player 'retain'"):
            agreement(lambda x: x - math.inf, torch.sqrt).check_finite()

    def test_a_fault_never_leaves_a_finite_update(self):
        (x,) = scalars(0.0)
        Bargain([x], Nash(when_stationary="noise")).backward(forget=lambda: x, retain=x.sqrt)
        assert not x.grad.isfinite()


class TestStationary:
    """What happens where no direction helps everybody."""

    @staticmethod
    def opposed(x):
        return {"forget": (3 * x).sum, "retain": (-2 * x).sum}

    def test_retain_moves_the_retaining_player(self):
        x = torch.ones(4, requires_grad=True)
        agreement = Bargain([x]).backward(**self.opposed(x))
        assert_close(x.grad, torch.full((4,), -0.5))
        assert agreement.stationary
        assert agreement.weights.tolist() == pytest.approx([0.0, 0.25])

    def test_retaining_players_are_named(self):
        x = torch.ones(4, requires_grad=True)
        agreement = Bargain([x], retaining=("forget",)).backward(**self.opposed(x))
        assert_close(x.grad, torch.full((4,), 0.5))
        assert agreement.weights[1] == 0

    def test_several_retaining_players_bargain_alone(self):
        x, y = scalars(0, 0)
        agreement = Bargain([x, y], Nash(length="nash"), retaining=("keep", "hold")).backward(
            forget=lambda: -x - y, keep=lambda: 10 * x, hold=lambda: 0.1 * y
        )
        assert agreement.stationary
        assert agreement.weights.tolist() == pytest.approx([0.0, 0.1, 10.0])
        assert (x.grad.item(), y.grad.item()) == pytest.approx((1.0, 1.0))

    @pytest.mark.parametrize("retaining", [(), ("nobody",)])
    def test_nothing_moves_where_nobody_retains(self, retaining):
        x = torch.ones(4, requires_grad=True)
        Bargain([x], retaining=retaining).backward(**self.opposed(x))
        assert x.grad.tolist() == [0.0] * 4

    def test_nothing_moves_where_the_retaining_players_are_opposed_too(self):
        x = torch.ones(4, requires_grad=True)
        Bargain([x], retaining=("forget", "retain")).backward(**self.opposed(x))
        assert x.grad.tolist() == [0.0] * 4

    def test_skip(self):
        x = torch.ones(4, requires_grad=True)
        agreement = Bargain([x], Nash(when_stationary="skip")).backward(**self.opposed(x))
        assert x.grad.tolist() == [0.0] * 4
        assert agreement.stationary
        assert agreement.weights.tolist() == [0.0, 0.0]

    def test_all_gradients_zero(self):
        x = torch.ones(4, requires_grad=True)
        agreement = Bargain([x]).backward(forget=(0 * x).sum, retain=(0 * x).sum)
        assert x.grad.tolist() == [0.0] * 4
        assert agreement.stationary
        assert agreement.cosines[0, 1] == 0

    def test_a_rule_without_a_say_skips(self):
        x = torch.ones(4, requires_grad=True)
        agreement = Bargain([x], lambda K: torch.zeros(2)).backward(**self.opposed(x))
        assert agreement.stationary
        assert not x.grad.any()

    def test_weightings_retain_too(self):
        x = torch.ones(4, requires_grad=True)

        def refuses_two(matrix):
            return torch.zeros(2) if len(matrix) == 2 else torch.full((1,), 3.0)

        Bargain([x], Weighting(refuses_two)).backward(**self.opposed(x))
        assert x.grad.tolist() == [-6.0] * 4

    def noise(self, seed=0, steps=1, masks=None):
        x, y = torch.ones(40, requires_grad=True), torch.ones(3, 2, requires_grad=True)
        bargain = Bargain([x, y], Nash(when_stationary="noise"), masks=masks, seed=seed)
        found = []
        for _ in range(steps):
            x.grad = y.grad = None
            agreement = bargain.backward(forget=lambda: x.sum() + y.sum(), retain=lambda: -x.sum() - y.sum())
            assert agreement.stationary
            found.append(torch.cat([x.grad, y.grad.flatten()]))
        return torch.stack(found)

    def test_noise_has_unit_length(self):
        assert self.noise().norm().item() == pytest.approx(1.0, rel=1e-6)

    def test_noise_follows_the_seed_and_the_step(self):
        first = self.noise(seed=3, steps=5)
        torch.manual_seed(99)  # somebody else's business
        assert torch.equal(self.noise(seed=3, steps=5), first)
        others = torch.cat([first, self.noise(seed=4, steps=5), self.noise(seed=-1), self.noise(seed=2**70)])
        cosines = others @ others.T - torch.eye(len(others))
        assert cosines.abs().max() < 0.7  # no two are alike

    def test_noise_is_the_same_in_every_process(self):
        assert self.noise(seed=3, steps=2)[1, :3].tolist() == pytest.approx([-0.116475, 0.223307, 0.282915], abs=1e-5)

    def test_noise_does_not_touch_the_callers_generator(self):
        state = torch.get_rng_state()
        self.noise()
        assert torch.equal(torch.get_rng_state(), state)

    def test_noise_keeps_to_the_masks(self):
        mask = torch.zeros(40, dtype=torch.bool)
        mask[5:9] = True
        update = self.noise(masks=[mask, None])[0]
        assert (update[:40] != 0).nonzero().flatten().tolist() == [5, 6, 7, 8]
        assert update[40:].all()
        assert update.norm().item() == pytest.approx(1.0, rel=1e-6)

    def test_no_noise_where_there_is_an_agreement(self, problem):
        _, update = problem.by_hand(Nash())
        Bargain(problem.parameters, Nash(when_stationary="noise")).backward(**problem.players())
        assert_update(problem.parameters, update)


class TestCompany:
    """Works with what usually stands around ``loss.backward()``."""

    def test_optimiser_clipper_and_scheduler(self):
        # Two players pull towards different points; agreed steps bring both down, to where neither gains.
        x = torch.tensor([4.0, 3.0], requires_grad=True)
        ends = {"forget": torch.tensor([1.0, 0.0]), "retain": torch.tensor([-1.0, 0.0])}
        players = {name: lambda end=end: (x - end).square().sum() for name, end in ends.items()}
        optimizer = torch.optim.SGD([x], lr=0.5, momentum=0.5)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
        bargain = Bargain([x], Nash(length="nash"), retaining=())
        losses = []
        for _ in range(40):
            optimizer.zero_grad()
            losses.append(bargain.backward(**players).losses)
            assert nn.utils.clip_grad_norm_([x], 0.3) < 1.5
            assert x.grad.norm() <= 0.3 + 1e-5
            optimizer.step()
            scheduler.step()
        assert (losses[-1] < losses[0]).all()
        assert abs(x[1].item()) < 0.1  # on the line between the ends: Pareto-optimal
        assert abs(x[0].item()) < 1.1

    def test_activation_checkpoints(self, problem):
        _, update = problem.by_hand(Nash())

        def player(name):
            x, y = problem.batches[name]
            return lambda: cross_entropy(checkpoint(problem.model, x, use_reentrant=False), y)

        Bargain(problem.parameters).backward(**{name: player(name) for name in problem.batches})
        assert_update(problem.parameters, update)

    def test_refuses_reentrant_checkpoints(self, problem):
        # Only the head would get a gradient, and nothing would tell.
        *body, head = problem.model
        x, y = problem.batches["retain"]

        def loss():
            hidden = checkpoint(nn.Sequential(*body), x.clone().requires_grad_(), use_reentrant=True)
            return cross_entropy(head(hidden), y)

        with pytest.raises(LossError, match=r"'retain' .* use_reentrant=False"):
            Bargain(problem.parameters).backward(retain=loss)
        assert all(p.grad is None for p in problem.parameters)

    def test_batch_norm_and_dropout_see_each_player_once(self, device, dtype):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 4))
        problem = Problem(model, (6,), device, dtype)
        Bargain(problem.parameters).backward(**problem.players())
        assert model[1].num_batches_tracked == 2


@pytest.mark.gpu
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("masked", [False, True])
def test_nothing_waits_for_the_device(rule, masked):
    problem = Problem(convolutional(), (3, 8, 8), torch.device("cuda"))
    masks = [torch.ones_like(p, dtype=torch.bool) for p in problem.parameters] if masked else None
    bargain = Bargain(problem.parameters, rule, masks=masks)
    bargain.backward(**problem.players())  # libraries load, memory is claimed
    problem.model.zero_grad()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        agreement = bargain.backward(**problem.players())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    agreement.check_finite()
