import pytest
import torch
from torch import nn

from amnesty.bargaining import Bargain, Nash, Sum
from amnesty.data import Batches, pair
from amnesty.errors import InvalidInputError, NonFiniteError, PrecisionError
from amnesty.tasks import Role
from amnesty.training import Loop
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
    from amnesty.seeds import generator

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
