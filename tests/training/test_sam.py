import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.bargaining import Nash
from amnesty.errors import InvalidInputError, NonFiniteError
from amnesty.tasks import Role
from amnesty.training import SAM, Loop
from tests import tiny

BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


def batch(seed=0):
    return tiny.blobs(30, seed)[list(range(30))]


def slopes(model, images, labels):
    return torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("radius", [0.05, 0.5])
def test_it_is_sam_written_by_hand(base, radius):
    model, twin = tiny.mlp(), tiny.mlp()
    optimizer, plain = SAM(BASES[base](model.parameters()), radius), BASES[base](twin.parameters())
    for seed in range(4):
        images, labels = batch(seed)

        def closure(images=images, labels=labels):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            return loss.item()

        first = closure()
        uphill = optimizer.step(closure)
        assert uphill > first

        gradients = slopes(twin, images, labels)
        length = torch.cat([g.flatten() for g in gradients]).norm()
        away = copy.deepcopy(twin)
        with torch.no_grad():
            for p, g in zip(away.parameters(), gradients, strict=True):
                p.add_(radius * g / length)
        for p, g in zip(twin.parameters(), slopes(away, images, labels), strict=True):
            p.grad = g
        plain.step()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


class TestTheWeights:
    def test_are_uphill_in_the_closure_and_back_to_the_bit_before_the_step(self):
        model = tiny.mlp()
        before, seen = tiny.weights(model), {}

        class Still(torch.optim.SGD):
            def step(self, closure=None):
                seen["base"] = tiny.weights(model)

        optimizer = SAM(Still(model.parameters(), lr=1.0), 0.3)
        for p in model.parameters():
            p.grad = torch.randn(p.shape)
        optimizer.step(lambda: seen.update(uphill=tiny.weights(model)))
        assert tiny.same(seen["base"], before)
        away = sum((seen["uphill"][n] - before[n]).square().sum() for n in before).sqrt().item()
        assert away == pytest.approx(0.3, rel=1e-4)

    def test_are_back_to_the_bit_when_the_closure_raises(self):
        model = tiny.mlp()
        before = tiny.weights(model)
        optimizer = SAM(BASES["sgd"](model.parameters()))
        for p in model.parameters():
            p.grad = torch.randn(p.shape)
        with pytest.raises(ZeroDivisionError):
            optimizer.step(lambda: 1 / 0)
        assert tiny.same(tiny.weights(model), before) and not optimizer.state

    def test_without_a_gradient_stay(self):
        model = tiny.mlp()
        model[1].requires_grad_(False)
        before = tiny.weights(model)
        optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))

        def closure():
            assert torch.equal(model[1].weight, before["1.weight"])
            optimizer.zero_grad()
            F.cross_entropy(model(batch()[0]), batch()[1]).backward()

        closure()
        optimizer.step(closure)
        assert torch.equal(model[1].weight, before["1.weight"]) and not torch.equal(
            model[3].weight, before["3.weight"]
        )

    def test_at_the_bottom_have_nowhere_to_go(self):
        p = nn.Parameter(torch.ones(3))
        p.grad = torch.zeros(3)
        SAM(torch.optim.SGD([p], lr=0.1)).step(lambda: None)
        assert p.tolist() == [1, 1, 1]


def test_there_is_no_step_without_a_closure():
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(InvalidInputError, match="needs a closure"):
        SAM(torch.optim.SGD([p], lr=0.1)).step()


@pytest.mark.parametrize("radius", [0.0, -0.1, float("nan")])
def test_a_radius_is_positive(radius):
    with pytest.raises(InvalidInputError, match="`radius` must be positive"):
        SAM(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), radius)


def test_a_run_that_is_resumed_from_its_state_ends_in_the_same_bits():
    def steps(model, optimizer, seeds):
        for seed in seeds:
            images, labels = batch(seed)

            def closure(images=images, labels=labels):
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()

            closure()
            optimizer.step(closure)

    whole = tiny.mlp()
    optimizer = SAM(BASES["adam"](whole.parameters()))
    steps(whole, optimizer, range(2))
    state, halfway = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(whole)
    steps(whole, optimizer, range(2, 4))
    other = SAM(BASES["adam"](halfway.parameters()))
    other.load_state_dict(state)
    assert other.state is other.base.state and other.param_groups is other.base.param_groups
    steps(halfway, other, range(2, 4))
    assert tiny.same(tiny.weights(whole), tiny.weights(halfway))


def test_a_scheduler_moves_the_rate_of_the_base():
    p = nn.Parameter(torch.ones(1))
    base = torch.optim.SGD([p], lr=1.0)
    optimizer = SAM(base, 0.1)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    moved = []
    for _ in range(3):
        before = p.item()
        p.grad = torch.ones(1)
        optimizer.step(lambda: setattr(p, "grad", torch.ones(1)))
        moved.append(before - p.item())
        rates.step()
    assert moved == pytest.approx([1, 0.5, 0.25]) and base.param_groups[0]["lr"] == 0.125


class TestInTheLoop:
    @staticmethod
    def run(model, task, radius=0.2, loop=None, **more):
        players = more.pop("players", {"forget": task.relabelled(), "retain": task.preserved()})
        loop = loop or Loop(model, task.parts, seed=3)
        base = BASES["sgd"]
        loop.run(
            players,
            optimizer=lambda p, steps: base(p) if radius is None else SAM(base(p), radius),
            **{"epochs": 2, "batch_size": 40} | more,
        )
        return loop

    def test_the_second_pass_leaves_the_statistics_of_batch_norm(self):
        task, model = tiny.task(), tiny.conv_net()
        steps = len(self.run(model, task).history)
        assert model[1].num_batches_tracked == 2 * steps  # two players, as without SAM
        seen = []
        still = tiny.conv_net()

        def watched(net, given, generator):
            seen.append(still[1].running_mean.clone())
            return task.preserved().loss(net, given, generator)

        self.run(still, task, players={"retain": Role("retain", watched)}, epochs=1, batch_size=200)
        assert len(seen) == 2 and still[1].num_batches_tracked == 1
        assert torch.equal(seen[1], still[1].running_mean) and not torch.equal(seen[0], seen[1])

    @pytest.mark.parametrize(("policy", "moved"), [("retain_stats", 1), ("eval", 0)])
    def test_policies_hold(self, policy, moved):
        task, model = tiny.task(), tiny.conv_net()
        steps = len(self.run(model, task, batch_norm=policy).history)
        assert model[1].num_batches_tracked == moved * steps and model[1].track_running_stats

    def test_both_passes_get_the_same_random_labels(self):
        task, drawn = tiny.task(tiny.mlp()), []

        def loss(net, given, generator):
            drawn.append(torch.randint(0, 3, (len(given[1]),), generator=generator).tolist())
            return F.cross_entropy(net(given[0]), torch.tensor(drawn[-1]))

        self.run(tiny.mlp(), task, players={"forget": Role("forget", loss)}, epochs=3)
        assert drawn[::2] == drawn[1::2] and len(drawn) == 6 and drawn[0] != drawn[2] != drawn[4]

    def test_it_is_the_step_by_hand_through_a_rule(self):
        task, model, twin = tiny.task(), tiny.mlp(), tiny.mlp()
        players = {"forget": task.ascended(), "retain": task.preserved()}
        self.run(model, task, radius=0.3, players=players, rule=Nash(), epochs=1, batch_size=200)
        parts = {name: task.parts[name][list(range(len(task.parts[name])))] for name in players}

        def bargain(net):
            ascent = [-g for g in slopes(net, *parts["forget"])]
            units = []
            for gradients in (ascent, slopes(net, *parts["retain"])):
                length = torch.cat([g.flatten() for g in gradients]).norm()
                units.append([g / length for g in gradients])
            both = [a + b for a, b in zip(*units, strict=True)]
            return [x / torch.cat([y.flatten() for y in both]).norm() for x in both]

        away, climb = copy.deepcopy(twin), bargain(twin)
        with torch.no_grad():
            for p, d in zip(away.parameters(), climb, strict=True):
                p.add_(0.3 * d)
        base = BASES["sgd"](twin.parameters())
        for p, d in zip(twin.parameters(), bargain(away), strict=True):
            p.grad = d
        base.step()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)

    def test_the_update_is_clipped_and_not_the_climb(self):
        task, model = tiny.task(tiny.mlp()), tiny.mlp()
        before, away = tiny.weights(model), []

        def loss(net, given, generator):
            away.append(sum((v - before[n]).square().sum() for n, v in net.state_dict().items()).sqrt().item())
            return 100 * task.preserved().loss(net, given, generator)

        players = {"retain": Role("retain", loss)}
        self.run(model, task, players=players, epochs=1, batch_size=200, max_norm=0.05)
        assert away == pytest.approx([0, 0.2], rel=1e-4)
        moved = sum((v - before[n]).square().sum() for n, v in model.state_dict().items()).sqrt().item()
        assert moved == pytest.approx(0.1 * 0.05, rel=0.2)  # and weight decay

    def test_masked_coordinates_stay_uphill_too(self):
        task, model = tiny.task(), tiny.conv_net()
        draw = torch.Generator().manual_seed(0)
        masks = {n: torch.rand(p.shape, generator=draw) > 0.5 for n, p in model.named_parameters()}
        before = tiny.weights(model)

        def loss(net, given, generator):
            for n, p in net.named_parameters():
                assert torch.equal(p[~masks[n]], before[n][~masks[n]])
            return task.preserved().loss(net, given, generator)

        self.run(model, task, players={"retain": Role("retain", loss)}, masks=masks)
        assert not torch.equal(model[0].weight, before["0.weight"])

    def test_nan_uphill_leaves_the_last_good_weights(self):
        task, model, calls = tiny.task(), tiny.conv_net(), []

        def loss(net, given, generator):
            calls.append(1)
            return task.preserved().loss(net, given, generator) * (torch.nan if len(calls) == 4 else 1)

        kept = []
        loop = Loop(model, task.parts, watch=lambda record, total: kept.append(tiny.weights(model)))
        with pytest.raises(NonFiniteError, match=r"Step 2 \(epoch 1\): the loss of player 'retain' is nan") as error:
            self.run(model, task, loop=loop, players={"retain": Role("retain", loss)})
        assert error.value.model is model and len(kept) == 1
        assert all(torch.equal(p, kept[0][n]) for n, p in model.named_parameters())
        assert all(p.grad is None for p in model.parameters())

    def test_it_is_another_path_than_without(self):
        task, found = tiny.task(tiny.mlp()), []
        for radius in (None, 1e-6, 0.5):
            model = tiny.mlp()
            self.run(model, task, radius=radius)
            found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
        assert (found[0] - found[2]).norm() > 0.01
