import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from amnesty.bargaining import Bargain, Nash, Sum
from amnesty.data import Batches, pair
from amnesty.errors import InvalidInputError, NonFiniteError, PrecisionError
from amnesty.seeds import generator
from amnesty.tasks import Role, cross_entropy
from amnesty.training import Hook, Loop
from tests import tiny


def sgd(parameters, steps=0):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def players(task):
    return {"forget": task.relabelled(), "retain": task.preserved()}


def test_it_is_the_loop_one_would_write_by_hand():
    task, model, twin = tiny.task(), tiny.mlp(), tiny.mlp()
    Loop(model, task.parts, seed=3).run(players(task), optimizer=sgd, epochs=2, rule=Nash(), batch_size=20)

    streams = {name: Batches(task.parts[name], 20, 3, name) for name in ("forget", "retain")}
    optimizer, bargain = sgd(twin.parameters()), Bargain(twin.parameters(), Nash())
    labels = generator(3, "labels", "forget")
    for epoch in (1, 2):
        for batches in pair(streams, "cycle_forget", epoch):
            bargain.backward(
                forget=lambda batch=batches["forget"]: task.relabelled().loss(twin, batch, labels),
                retain=lambda batch=batches["retain"]: task.preserved().loss(twin, batch, labels),
            )
            optimizer.step()
            optimizer.zero_grad()
    assert tiny.same(tiny.weights(model), tiny.weights(twin))


def test_history_has_a_line_a_step():
    task, seen = tiny.task(), []
    loop = Loop(tiny.conv_net(), task.parts, watch=lambda record, total: seen.append((record["step"], total)))
    loop.run(players(task), optimizer=sgd, epochs=2, rule=Nash(), batch_size=54, schedule="linear")
    assert seen == [(k, 4) for k in (1, 2, 3, 4)]
    first, last = loop.history[0], loop.history[-1]
    assert first["lr"] == 0.05 and last["lr"] == pytest.approx(0.0125) and last["epoch"] == 2
    assert -1 <= first["cosine"] <= 1 and first["length"] == pytest.approx(1, abs=1e-5)
    assert first["forget_weight"] > 0 < first["retain_norm"] and first["stationary"] is False


def test_alone_the_tail_is_a_plain_step():
    task = tiny.task()
    loop = Loop(tiny.mlp(), task.parts)
    loop.run(players(task), optimizer=sgd, epochs=1, rule=Nash(), pairing="retain_tail", batch_size=12)
    tail = [record for record in loop.history if "forget_loss" not in record]
    assert len(loop.history) == 9 and len(tail) == 8
    assert all(record["retain_weight"] == 1 for record in tail)


def test_a_single_player_keeps_its_rule():
    task = tiny.task()
    loop = Loop(tiny.mlp(), task.parts)
    loop.run({"retain": task.preserved()}, optimizer=sgd, epochs=1, rule=Nash())
    assert loop.history[0]["length"] == pytest.approx(1, abs=1e-5)


def test_max_norm_clips_the_update():
    task, model = tiny.task(), tiny.mlp()
    before = tiny.weights(model)
    Loop(model, task.parts).run(
        {"retain": task.preserved()},
        optimizer=lambda parameters, steps: torch.optim.SGD(parameters, lr=1.0),
        epochs=1,
        rule=Sum((100.0,)),
        batch_size=200,
        max_norm=0.1,
    )
    moved = sum((value - before[name]).square().sum() for name, value in model.state_dict().items())
    assert moved.sqrt().item() == pytest.approx(0.1, rel=1e-3)


def test_nan_stops_before_the_weights_move():
    task, model = tiny.task(), tiny.conv_net()
    calls = []

    def poisoned(net: nn.Module, batch, generator):
        calls.append(1)
        loss = task.preserved().loss(net, batch, generator)
        return loss * (torch.nan if len(calls) == 3 else 1)

    loop = Loop(model, task.parts)
    snapshots = []
    loop.watch = lambda record, total: snapshots.append(tiny.weights(model))
    with pytest.raises(
        NonFiniteError, match=r"Step 3 \(epoch 2\): the loss of player 'retain' is nan.*step 2"
    ) as error:
        loop.run({"retain": Role("retain", poisoned)}, optimizer=sgd, epochs=2, rule=Sum(), batch_size=54)
    assert error.value.step == 3 and error.value.model is model
    assert tiny.same(tiny.weights(model), snapshots[-1])  # batch-norm statistics included
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("both", [False, True])
def test_a_rule_whose_weights_are_not_finite_is_named(bad, both):
    task, model = tiny.task(), tiny.conv_net()
    before = tiny.weights(model)

    def rule(gramian):
        return torch.tensor([bad if both else 1.0, bad], dtype=torch.float64)

    with pytest.raises(NonFiniteError) as error:
        Loop(model, task.parts).run(players(task), optimizer=sgd, epochs=1, rule=rule)
    named = [f"the rule gives player {name!r} a weight of {bad}" for name in ("forget", "retain")[not both :]]
    assert "; ".join(named) in str(error.value) and ("'forget'" in str(error.value)) == both
    assert error.value.step == 1 and tiny.same(tiny.weights(model), before)


@pytest.mark.parametrize("epochs", [1, 2])
def test_weights_that_are_not_finite_are_named_and_not_called_good(epochs):
    task, model = tiny.task(), tiny.mlp()
    with pytest.raises(
        NonFiniteError, match="Weights of '1.weight' are not finite after step 1.*smaller `lr`"
    ) as error:
        Loop(model, task.parts).run(
            {"retain": task.preserved()},
            optimizer=lambda parameters, steps: torch.optim.SGD(parameters, lr=float("inf")),
            epochs=epochs,
            rule=Sum(),
        )
    assert error.value.step == 1 and error.value.model is model


def test_bfloat16_keeps_float32_weights_and_nearly_the_same_path():
    task, single, half = tiny.task(), tiny.mlp(), tiny.mlp()
    for model, precision in ((single, "float32"), (half, "bfloat16")):
        Loop(model, task.parts, precision=precision).run(players(task), optimizer=sgd, epochs=1, rule=Nash())
    for a, b in zip(single.parameters(), half.parameters(), strict=True):
        assert b.dtype == torch.float32 and not torch.equal(a, b)
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999


def test_all_faults_are_named_at_once():
    task = tiny.task()
    with pytest.raises(InvalidInputError) as error:
        Loop(tiny.mlp(), {"retain": task.parts["retain"]}).run(
            players(task), optimizer=sgd, epochs=0, rule=Nash(), schedule="warm", batch_norm="off"
        )
    for part in ("epochs", "schedule", "'warm'", "batch_norm", "'forget' needs the forget set"):
        assert part in str(error.value)
    with pytest.raises(InvalidInputError, match="pairing"):
        Loop(tiny.mlp(), task.parts).run(players(task), optimizer=sgd, epochs=1, rule=Nash(), pairing="zip")
    with pytest.raises(PrecisionError, match="float16"):
        Loop(tiny.mlp(), task.parts, precision="float16")


def orders(part="retain"):
    """A role that notes which examples it gets, each known by its first pixel."""
    seen = []

    def loss(model, batch, generator):
        seen.append(batch[0][:, 0, 0, 0].tolist())
        return cross_entropy(model, batch, generator)

    return seen, Role(part, loss)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class TestDuring:
    def test_a_player_may_leave_after_some_passes(self):
        task = tiny.task()
        loop = Loop(tiny.mlp(), task.parts)
        loop.run(players(task), optimizer=sgd, epochs=3, rule=Nash(), batch_size=27, during={"forget": 1})
        assert ["forget_loss" in r for r in loop.history] == 4 * [True] + 8 * [False]
        assert [r["epoch"] for r in loop.history] == [1] * 4 + [2] * 4 + [3] * 4
        assert all(r["retain_weight"] == 1 for r in loop.history[4:])  # alone: a plain step

    def test_sequential_passes_grow_shorter(self):
        task, totals = tiny.task(), []
        loop = Loop(tiny.mlp(), task.parts, watch=lambda record, total: totals.append(total))
        loop.run(players(task), optimizer=sgd, epochs=3, batch_size=12, during={"forget": 2}, pairing="sequential")
        who = ["f" if "forget_loss" in r else "r" for r in loop.history]
        assert "".join(who) == 2 * ("f" + 9 * "r") + 9 * "r" and set(totals) == {29}

    def test_the_schedule_is_that_of_all_steps(self):
        task = tiny.task()
        loop = Loop(tiny.mlp(), task.parts)
        loop.run(
            players(task),
            optimizer=sgd,
            epochs=2,
            batch_size=54,
            during={"forget": 1},
            pairing="sequential",
            schedule="linear",
        )
        assert [r["lr"] for r in loop.history] == pytest.approx([0.05 * (1 - k / 5) for k in range(5)])

    def test_somebody_must_play(self):
        task, model = tiny.task(), tiny.mlp()
        before = tiny.weights(model)
        with pytest.raises(InvalidInputError, match="`during` names 'frget', who does not play"):
            Loop(model, task.parts).run(players(task), optimizer=sgd, epochs=1, during={"frget": 1})
        with pytest.raises(InvalidInputError, match="no stream"):
            Loop(model, task.parts).run({"retain": task.preserved()}, optimizer=sgd, epochs=2, during={"retain": 1})
        assert tiny.same(tiny.weights(model), before)


class TestBeside:
    """A player that sees two parts at once."""

    @staticmethod
    def role(seen):
        def loss(model, batches, generator):
            mine, other = batches
            seen.append((len(mine[1]), len(other[1])))
            return cross_entropy(model, mine, generator) + cross_entropy(model, other, generator)

        return Role("forget", loss, beside="retain")

    @pytest.mark.parametrize(("pairing", "steps"), [("truncate", 2), ("cycle_forget", 2)])
    def test_gets_a_batch_of_each(self, pairing, steps):
        task, seen = tiny.task(), []
        loop = Loop(tiny.mlp(), task.parts)
        loop.run({"forget": self.role(seen)}, optimizer=sgd, epochs=1, batch_size=6, pairing=pairing)
        assert seen == steps * [(6, 6)] and list(loop.history[0])[3] == "forget_loss"

    def test_among_others(self):
        task, seen = tiny.task(), []
        loop = Loop(tiny.mlp(), task.parts)
        both = {"forget": self.role(seen), "retain": task.preserved()}
        loop.run(both, optimizer=sgd, epochs=1, batch_size={"forget": 5, "retain": 36}, rule=Nash())
        assert len(loop.history) == 3 and seen == [(4, 5), (4, 5), (4, 5)]
        assert {"forget_loss", "retain_loss", "cosine"} <= loop.history[0].keys()

    @pytest.mark.parametrize("pairing", ["sequential", "retain_tail"])
    def test_needs_a_pairing_that_keeps_both(self, pairing):
        with pytest.raises(InvalidInputError, match=f"'forget' sees two parts at once, which `pairing` '{pairing}'"):
            Loop(tiny.mlp(), tiny.task().parts).run(
                {"forget": self.role([])}, optimizer=sgd, epochs=1, pairing=pairing
            )

    def test_needs_both_parts(self):
        task = tiny.task()
        with pytest.raises(InvalidInputError, match="player 'forget' needs the retain set"):
            Loop(tiny.mlp(), {"forget": task.parts["forget"]}).run({"forget": self.role([])}, optimizer=sgd, epochs=1)


class TestHooks:
    def test_are_called_at_their_moments_in_order(self):
        task, model, calls, weights = tiny.task(), tiny.mlp(), [], []
        masks = {"1.weight": torch.zeros(16, 36, dtype=torch.bool)}
        start = model[1].weight.detach().clone()

        def hook(name):
            def note(moment):
                return lambda *epoch: calls.append((name, moment, *epoch))

            return Hook(**{m: note(m) for m in ("start_epoch", "before_step", "after_step", "end_epoch")})

        def before_step():
            assert all(p.grad is not None for p in model.parameters())
            assert flat_gradient(model).norm() == pytest.approx(1, rel=1e-3)  # of Nash; clipping follows
            weights.append(flat(model))

        def after_step():
            assert not torch.equal(flat(model), weights[-1])
            model[1].weight.data.add_(1.0)  # put back later

        def end_epoch(epoch):
            assert torch.equal(model[1].weight, start)

        loop = Loop(model, task.parts)
        middle = Hook(before_step=before_step, after_step=after_step, end_epoch=end_epoch)
        loop.run(
            {"retain": task.preserved()},
            optimizer=sgd,
            epochs=2,
            rule=Nash(),
            batch_size=54,
            masks=masks,
            max_norm=0.01,
            hooks=[hook("a"), middle, hook("b")],
        )
        step = [("a", "before_step"), ("b", "before_step"), ("a", "after_step"), ("b", "after_step")]
        passes = [[(n, m, e) for n in "ab"] for e in (1, 2) for m in ("start_epoch", "end_epoch")]
        assert calls == passes[0] + 2 * step + passes[1] + passes[2] + 2 * step + passes[3]

    def test_change_the_update(self):
        task, model = tiny.task(), tiny.mlp()
        before = flat(model)

        def stop():
            for p in model.parameters():
                p.grad.zero_()

        Loop(model, task.parts).run(
            {"retain": task.preserved()}, optimizer=sgd, epochs=1, hooks=[Hook(), Hook(before_step=stop)]
        )
        assert torch.equal(flat(model), before)

    def test_count_the_passes_of_each_run_from_one(self):
        task, counted = tiny.task(), []
        loop = Loop(tiny.mlp(), task.parts)
        for epochs in (2, 1):
            loop.run(
                {"retain": task.preserved()}, optimizer=sgd, epochs=epochs, hooks=[Hook(start_epoch=counted.append)]
            )
        assert counted == [1, 2, 1] and [r["epoch"] for r in loop.history] == [1, 2, 3]


def flat_gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_a_schedule_may_be_a_function_of_the_step_and_their_number():
    task, asked = tiny.task(), set()

    def warm(step, steps):
        asked.add((step, steps))
        return (step + 1) / steps

    loop = Loop(tiny.mlp(), task.parts)
    loop.run({"retain": task.preserved()}, optimizer=sgd, epochs=2, batch_size=54, schedule=warm)
    assert [r["lr"] for r in loop.history] == pytest.approx([0.05 * k / 4 for k in (1, 2, 3, 4)])
    assert {steps for _, steps in asked} == {4}


class TestMasksOfTheLoop:
    @staticmethod
    def half(model):
        draw = torch.Generator().manual_seed(0)
        return {n: torch.rand(p.shape, generator=draw) > 0.5 for n, p in model.named_parameters()}

    @staticmethod
    def held(model, masks, before):
        return all(torch.equal(p[~masks[n]], before[n][~masks[n]]) for n, p in model.named_parameters())

    def test_hold_over_runs_whatever_happens_in_between(self):
        task, model = tiny.task(), tiny.conv_net()
        masks, before = self.half(model), tiny.weights(model)
        loop = Loop(model, task.parts, masks=masks)
        for _ in range(2):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(1.0)
            loop.run(players(task), optimizer=sgd, epochs=1, batch_size=27)
            assert self.held(model, masks, before)
            assert all((p[masks[n]] != before[n][masks[n]]).all() for n, p in model.named_parameters())

    def test_hold_beside_those_of_a_run(self):
        task, model = tiny.task(), tiny.mlp()
        masks, before = self.half(model), tiny.weights(model)
        others = {name: ~mask for name, mask in masks.items() if name != "3.bias"}
        Loop(model, task.parts, masks=masks).run(players(task), optimizer=sgd, epochs=1, masks=others)
        after = tiny.weights(model)
        assert all(torch.equal(after[n], before[n]) for n in others)
        assert not torch.equal(after["3.bias"], before["3.bias"]) and self.held(model, masks, before)

    def test_count_in_the_bargain_as_those_of_a_run_do(self):
        task, masks, found = tiny.task(), self.half(tiny.mlp()), []
        for mine, its in ((masks, {}), ({}, masks)):
            loop = Loop(tiny.mlp(), task.parts, masks=mine)
            loop.run(players(task), optimizer=sgd, epochs=2, rule=Nash(), batch_size=27, max_norm=0.5, masks=its)
            found.append((loop.history, tiny.weights(loop.model)))
        assert found[0][0] == found[1][0] and tiny.same(found[0][1], found[1][1])

    def test_hold_for_another_model(self):
        task, model = tiny.task(), tiny.mlp()
        masks, before = self.half(model), tiny.weights(model)
        loop = Loop(model, task.parts, masks=masks)
        other = tiny.mlp()
        with torch.no_grad():
            for p in other.parameters():
                p.normal_(generator=torch.Generator().manual_seed(3))
        free = tiny.weights(other)
        loop.replace(other)
        assert loop.model is other and self.held(other, masks, before)
        assert all(torch.equal(p[masks[n]], free[n][masks[n]]) for n, p in other.named_parameters())
        loop.run(players(task), optimizer=sgd, epochs=1)
        assert self.held(other, masks, before) and tiny.same(tiny.weights(model), before)

    def test_settle_puts_back_what_was_changed_by_hand(self):
        model = tiny.mlp()
        masks, before = self.half(model), tiny.weights(model)
        loop = Loop(model, tiny.task().parts, masks=masks)
        with torch.no_grad():
            model[1].weight.zero_()
        loop.settle()
        assert self.held(model, masks, before) and (model[1].weight[masks["1.weight"]] == 0).all()

    def test_none_by_default(self):
        model = tiny.mlp()
        loop = Loop(model, tiny.task().parts)
        with torch.no_grad():
            model[1].weight.zero_()
        loop.settle()
        assert (model[1].weight == 0).all()


class TestSeveralRuns:
    def test_have_data_orders_of_their_own(self):
        task, (seen, role) = tiny.task(), orders()
        loop = Loop(tiny.mlp(), task.parts, seed=3)
        for _ in range(2):
            loop.run({"retain": role}, optimizer=sgd, epochs=2, batch_size=200)
        assert loop.epochs == 4 and [r["epoch"] for r in loop.history] == [1, 2, 3, 4]
        assert all(sorted(order) == sorted(seen[0]) for order in seen)
        assert len({tuple(order) for order in seen}) == 4
        again, other = orders()
        Loop(tiny.mlp(), task.parts, seed=3).run({"retain": other}, optimizer=sgd, epochs=4, batch_size=200)
        assert again == seen

    def test_draw_other_labels_each(self):
        task, drawn = tiny.task(), []

        def loss(model, batch, generator):
            drawn.append(torch.rand(2, generator=generator).tolist())
            return cross_entropy(model, batch, generator)

        loop = Loop(tiny.mlp(), task.parts, seed=3)
        for _ in range(2):
            loop.run({"forget": Role("forget", loss)}, optimizer=sgd, epochs=1)
        one = generator(3, "labels", "forget")
        assert drawn == [torch.rand(2, generator=one).tolist() for _ in range(2)]

    def test_number_their_steps_and_notes_on(self):
        task, told = tiny.task(), []
        loop = Loop(tiny.mlp(), task.parts, watch=lambda record, total: told.append((record["step"], total)))
        loop.note(changed=0.5)
        loop.run({"retain": task.preserved()}, optimizer=sgd, epochs=1, batch_size=54)
        loop.note(changed=0.25, length=2.0)
        assert told == [(1, 1), (2, 3), (3, 3), (4, 4)]
        assert loop.history[0] == {"step": 1, "epoch": 0, "changed": 0.5}
        assert loop.history[3] == {"step": 4, "epoch": 1, "changed": 0.25, "length": 2.0}

    def test_parts_are_for_one_run(self):
        task, (seen, role) = tiny.task(), orders("few")
        loop = Loop(tiny.mlp(), task.parts)
        few = Subset(task.parts["retain"], [5, 7])
        loop.run({"few": role}, optimizer=sgd, epochs=1, parts={"few": few}, retaining=("few",))
        assert sorted(seen[0]) == sorted(few[i][0][0, 0, 0].item() for i in (0, 1))
        with pytest.raises(InvalidInputError, match="player 'few' needs the few set"):
            loop.run({"few": role}, optimizer=sgd, epochs=1)
        loop.run({"retain": Role("retain", role.loss)}, optimizer=sgd, epochs=1, parts={"retain": few}, batch_size=9)
        assert len(seen) == 2 and sorted(seen[1]) == sorted(seen[0])
