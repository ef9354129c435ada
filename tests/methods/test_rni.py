import copy

import pytest
import torch
from torch import nn

import amnesty
from amnesty.errors import InvalidInputError
from amnesty.methods.rni import RNI
from amnesty.weights import renew_modules
from tests import tiny
from tests.methods.by_hand import assert_same_weights, entropy, slope
from tests.methods.nets import deep_mlp, two_convs


def shortcut() -> nn.Module:
    """A net whose second norm does not look like one by its name."""
    torch.manual_seed(7)
    down = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    net = nn.Sequential()
    net.add_module("downsample", down)
    net.add_module("middle", nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 8)))
    net.add_module("head", nn.Linear(8, 3))
    return net


NORMS = {"downsample.1.weight", "downsample.1.bias", "middle.2.weight", "middle.2.bias"}


class Passes:
    """What is in the weights before each pass, and what may move in it."""

    def __init__(self, task, method, seed=0):
        self.states = []
        loop = amnesty.training.Loop(copy.deepcopy(task.model), task.sources, seed)

        def run(players, **arguments):
            self.states.append(tiny.weights(loop.model))
            self.calls.append(
                arguments | {"moving": {n for n, p in loop.model.named_parameters() if p.requires_grad}}
            )

        self.calls, loop.run = [], run
        method.run(task, loop)


def test_it_is_a_renewed_classifier_and_noise_and_passes_of_some_layers_then_of_all():
    task = tiny.task(shortcut())
    method = RNI(epochs=9, fine_epochs=3, quiet_epochs=2, picks=4, noisy=0.8, noise=0.5)
    passes = Passes(task, method)
    others = {n for n, _ in task.model.named_parameters()} - NORMS
    drawn: set[str] = set()
    for epoch, (state, call) in enumerate(zip(passes.states, passes.calls, strict=True)):
        before = passes.states[epoch - 1] if epoch else tiny.weights(task.model)
        changed = {n for n in state if not torch.equal(state[n], before[n])}
        picked = call["moving"] - NORMS
        assert call["moving"] >= NORMS and call["epochs"] == 1
        if epoch == 0:
            assert changed == {"head.weight", "head.bias"}
        if epoch < 6:
            assert len(picked) == 4
        else:
            assert picked == others
        if 2 <= epoch < 6:
            assert changed <= picked - drawn and len(changed) <= 3
            assert len(changed) >= len(picked - drawn) - 1
        elif epoch:
            assert not changed
        drawn |= picked
    assert drawn == others


@pytest.mark.parametrize(("noisy", "count"), [(0.8, 3), (0.7, 2), (1.0, 4), (0.0, 0)])
def test_a_share_of_what_is_picked_gets_noise_rounded_down(noisy, count):
    task = tiny.task(shortcut())
    passes = Passes(task, RNI(epochs=1, fine_epochs=0, quiet_epochs=0, picks=4, noisy=noisy))
    renewed = copy.deepcopy(task.model)
    renew_modules(renewed, ["head.weight", "head.bias"], 0)
    shaken = {n for n, p in renewed.named_parameters() if not torch.equal(p, passes.states[0][n])}
    assert len(shaken) == count and shaken <= passes.calls[0]["moving"] - NORMS


def test_noise_has_its_deviation():
    task = tiny.task(tiny.mlp())
    states = Passes(task, RNI(epochs=2, fine_epochs=0, quiet_epochs=0, picks=4, noisy=1.0, noise=0.04)).states
    renewed = copy.deepcopy(task.model)
    renew_modules(renewed, ["3.weight", "3.bias"], 0)
    difference = states[0]["1.weight"] - renewed[1].weight.detach()
    assert difference.std().item() == pytest.approx(0.04, rel=0.1)
    assert tiny.same(*states)  # drawn before, all of them


def test_every_pass_is_plain_training_by_an_optimiser_of_its_own():
    task = tiny.task(deep_mlp())
    method = RNI(
        epochs=3, fine_epochs=2, lr=0.1, last_lr=0.2, batch_size=54, momentum=0.6, weight_decay=0.05, picks=2
    )
    outcome = amnesty.unlearn(task, method, seed=3)
    assert [r["lr"] for r in outcome.history] == [0.1] * 4 + [0.2] * 2
    picked = Passes(task, method, seed=3).calls[0]["moving"]
    assert len(picked) == 2
    model = copy.deepcopy(task.model)
    renew_modules(model, ["5.weight", "5.bias"], 3)
    stream = amnesty.data.Batches(task.parts["retain"], 54, 3, "retain")
    for epoch, lr in enumerate((0.1, 0.1, 0.2), start=1):
        velocity = None
        for batch in stream.iterate(epoch):
            gradients = zip(model.named_parameters(), slope(model, entropy(model, batch)), strict=True)
            update = [(g + 0.05 * p) * (epoch > 1 or n in picked) for (n, p), g in gradients]
            velocity = update if velocity is None else [0.6 * v + u for v, u in zip(velocity, update, strict=True)]
            with torch.no_grad():
                for p, v in zip(model.parameters(), velocity, strict=True):
                    p.sub_(lr * v)
    assert_same_weights(outcome.model, model)


def test_by_default_rates_and_passes_are_as_published():
    history = amnesty.unlearn(tiny.task(two_convs()), RNI()).history
    assert [r["lr"] for r in history] == [2e-4] * 8 + [1e-3]


def test_a_schedule_is_that_of_the_whole_run():
    history = amnesty.unlearn(tiny.task(tiny.mlp()), RNI(epochs=4, last_lr=2e-4, schedule="linear")).history
    assert [r["lr"] for r in history] == pytest.approx([2e-4 * rate for rate in (1, 0.75, 0.5, 0.25)])


def test_what_must_not_move_gets_no_noise_and_flags_come_back():
    task = tiny.task(deep_mlp())
    task.model[3].weight.requires_grad_(False)
    held = torch.rand(16, 36) < 0.5
    method = RNI(epochs=4, fine_epochs=1, quiet_epochs=0, picks=20, noisy=1.0, noise=1.0)
    loop = amnesty.training.Loop(copy.deepcopy(task.model), task.sources, masks={"1.weight": held})
    method.run(task, loop)
    assert torch.equal(loop.model[3].weight, task.model[3].weight)
    assert torch.equal(loop.model[1].weight[~held], task.model[1].weight[~held])
    assert [n for n, p in loop.model.named_parameters() if not p.requires_grad] == ["3.weight"]


def test_one_mask_holds_through_all_passes():
    task = tiny.task(deep_mlp())
    found = amnesty.unlearn(task, RNI(epochs=3, fine_epochs=1, saliency=0.1)).model
    pairs = zip(found.parameters(), task.model.parameters(), strict=True)
    moved = sum(int((p != q).sum()) for p, q in pairs)
    total = sum(p.numel() for p in task.model.parameters())
    assert 0 < moved <= int(0.1 * total)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 3, "fine_epochs": 4}, "`fine_epochs` must be at most `epochs`, 3, found 4"),
        ({"noisy": 1.1}, r"`noisy` must be in \[0, 1\]"),
        ({"picks": -1}, "`picks` must be a whole number of at least 0"),
        ({"noise": -0.1}, "`noise` must be a number of at least 0"),
        ({"last_lr": 0}, "`last_lr` must be a positive number"),
    ],
)
def test_settings_are_checked(given, message):
    with pytest.raises(InvalidInputError, match=message):
        RNI(**given)
