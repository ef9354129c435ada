"""Phases of a method that go on where they were left, to the same bits."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import amnesty
from amnesty.bargaining import Bargain, Lookahead, Nash
from amnesty.errors import CheckpointError
from amnesty.methods import (
    CFW,
    FCS,
    LUR,
    OMP,
    RNI,
    SCRUB,
    CFk,
    FineTune,
    L1Sparse,
    MUNBa,
    NegGradPlus,
    Retrain,
    SalUnSoft,
    Scissorhands,
)
from amnesty.training import Recipe, hooks
from amnesty.training.stepper import Stepper
from tests import tiny
from tests.training.sittings import LONG, QUICK, Augmented, in_sittings, same, sitting, task, whole

METHODS = {
    "momentum": FineTune(**QUICK, lr=0.05),
    "Adam": FineTune(**QUICK, optimizer="adam"),
    "SAM": FineTune(**QUICK, sam=0.05, schedule="cosine"),
    "SAM around Adam": FineTune(**QUICK, sam=0.05, optimizer="adam"),
    "clipped": FineTune(**QUICK, max_norm=0.1, batch_norm="eval"),
    "restarts of the forget set": MUNBa(**QUICK, forget_batch_size=6, at_least=0, l1=1e-3, pairing="cycle_forget"),
    "a tail": NegGradPlus(**QUICK, pairing="retain_tail", pull=0.1),
    "one after the other": SCRUB(**QUICK, forget_batch_size=8, ascent_epochs=1),
    "lookahead": LUR(**QUICK, forget_batch_size=8),
    "several optimisers that last": FCS(**QUICK, forget_batch_size=8),
    "many phases and noise": RNI(**{**QUICK, "epochs": 4}, fine_epochs=2),
    "noise before the last pass": CFW(**QUICK),
    "frozen stages": CFk(**QUICK),
    "another model": Retrain(recipe=Recipe(**QUICK)),
}


@pytest.mark.parametrize("name", METHODS)
def test_stopped_after_each_step_it_ends_in_the_same_bits(name, tmp_path):
    expected = whole(task, METHODS[name])
    found = in_sittings(task, METHODS[name], tmp_path)
    assert same(found, expected)
    steps = [record["step"] for record in expected.history if "lr" in record]  # the others are notes
    assert found.resumed_after == tuple(steps) and found.notes == ()
    assert same(sitting(task, METHODS[name], tmp_path), expected)  # of nothing but what was saved


HOOKS = {
    "shrink": L1Sparse(**QUICK, l1=1e-2),
    "shrink to zero": L1Sparse(**QUICK, l1=1e-2, proximal=True),
    "hold the least": SalUnSoft(**QUICK),
    "projected": Scissorhands(**QUICK, memories=2),
    "snapshots": SCRUB(**QUICK, ascent_epochs=1, rewind=True, lr=0.05),
    "lottery": OMP(method=FineTune(**QUICK), recipe=Recipe(**QUICK), rewind_epochs=1),
}


@pytest.mark.parametrize("name", HOOKS)
def test_what_hooks_remember_is_saved_and_needed(name, tmp_path, monkeypatch):
    expected = whole(task, HOOKS[name])
    assert same(in_sittings(task, HOOKS[name], tmp_path / "a", steps=3), expected)
    assert same(sitting(task, HOOKS[name], tmp_path / "a"), expected)
    restore = Stepper.restore

    def forgetful(self, state):
        kept, self.hooks = self.hooks, ()
        restore(self, {**state, "hooks": []})
        self.hooks = kept

    monkeypatch.setattr(Stepper, "restore", forgetful)
    with suppress(IndexError, KeyError, RuntimeError):  # so much is missing that it fails
        assert not same(in_sittings(task, HOOKS[name], tmp_path / "b", steps=3), expected)


def test_every_hook_maker_with_a_memory_is_tried():
    found = {
        path.stem
        for path in Path(hooks.__file__).parent.glob("*.py")
        if "restore=" in path.read_text() and path.stem not in ("phase", "stepper")
    }
    assert found == {"hooks", "to_zero", "holding", "projection", "rewind", "lottery"}


class TestData:
    def test_augmentations_and_dropout(self, tmp_path):
        def make():
            return task(wrap=Augmented)

        assert same(in_sittings(make, LONG, tmp_path, steps=2), whole(make, LONG))

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_augmentations_by_worker_processes(self, tmp_path):
        def make():
            return task(wrap=Augmented)

        method = FineTune(epochs=1, batch_size=10)
        assert same(in_sittings(make, method, tmp_path, steps=3, workers=2), whole(make, method, workers=2))

    def test_named_forget_sets(self, tmp_path):
        method = MUNBa(**QUICK, forget_batch_size=4, at_least=0)

        def make():
            return task(named=True)

        expected = whole(make, method)
        assert "bob_loss" in expected.history[0]
        assert same(in_sittings(make, method, tmp_path, steps=2), expected)

    def test_loaders_are_refused(self, tmp_path):
        def make():
            return task(wrap=lambda data: DataLoader(data, batch_size=16))

        with pytest.raises(CheckpointError, match="forget set is a `DataLoader`"):
            sitting(make, LONG, tmp_path / "new")
        assert not (tmp_path / "new").exists()


class TestNumbers:
    def test_bfloat16(self, tmp_path):
        assert same(
            in_sittings(task, LONG, tmp_path, steps=4, precision="bfloat16"), whole(task, LONG, precision="bfloat16")
        )

    def test_masks_under_momentum_and_decay(self, tmp_path):
        masks = {"0.weight": torch.arange(72).view(8, 1, 3, 3) % 2 == 0}
        expected = whole(task, LONG, masks=masks)
        assert same(in_sittings(task, LONG, tmp_path, steps=4, masks=masks), expected)
        with pytest.raises(CheckpointError, match="the masks is another"):
            sitting(task, LONG, tmp_path)

    def test_batch_norm_statistics(self, tmp_path):
        expected = whole(task, LONG)
        found = in_sittings(task, LONG, tmp_path, steps=4)
        assert torch.equal(found.model[1].running_var, expected.model[1].running_var)
        assert found.model[1].num_batches_tracked == expected.model[1].num_batches_tracked > 0

    def test_weights_in_another_order_of_dimensions(self, tmp_path):
        def make():
            return task(lambda: tiny.conv_net().to(memory_format=torch.channels_last))

        assert same(in_sittings(make, LONG, tmp_path, steps=4), whole(make, LONG))

    def test_noise_where_nobody_agrees(self, tmp_path):
        def make():
            parts = {"forget": tiny.blobs(12, seed=1), "retain": tiny.blobs(12, seed=1)}
            return amnesty.Classification(tiny.mlp(), **parts, duplicates="keep")

        rule = Nash(when_stationary="noise")
        method = MUNBa(epochs=4, at_least=0, rule=rule, wish="ascend", batch_size=12, forget_batch_size=12, lr=0.1)
        expected = whole(make, method)
        assert expected.history[0]["stationary"]
        assert same(in_sittings(make, method, tmp_path), expected)

    def test_the_counters_of_a_bargain(self):
        theta = torch.ones(2, requires_grad=True)
        players = {"forget": lambda: theta.square().sum(), "retain": lambda: theta.cos().sum()}

        def step(bargain):
            theta.grad = None
            return bargain.backward(**players).numbers()

        look = Lookahead(0.1, curvature="finite-difference", check_every=3)
        first, second = (Bargain([theta], lookahead={"forget": look}) for _ in range(2))
        told = [step(first) for _ in range(5)]
        [step(second) for _ in range(2)]
        third = Bargain([theta], lookahead={"forget": look})
        third.load_state_dict(json.loads(json.dumps(second.state_dict())))
        assert [step(third) for _ in range(3)] == told[2:]


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*METHODS, *HOOKS])
def test_on_an_accelerator(name, tmp_path):
    method = {**METHODS, **HOOKS}[name]
    expected = whole(task, method, device="cuda")
    assert same(whole(task, method, device="cuda"), expected)
    found = in_sittings(task, method, tmp_path, steps=3, device="cuda")
    assert same(found, expected) and found.notes == ()
    assert same(sitting(task, method, tmp_path, device="cuda"), expected)
