"""The contract for methods must see each of its promises broken."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import nn

from amnesty.errors import InvalidInputError
from amnesty.methods import About, FineTune, Iterative, Method
from amnesty.tasks import Role, cross_entropy
from amnesty.testing import MODELS, PROMISES, ContractError, check_method
from amnesty.training import Hook

ABOUT = About("Mine", "mine", "nobody", 2026, "", ("retain",))
CNN = {"CNN": MODELS["CNN with batch norm"]}


@dataclass(frozen=True, kw_only=True)
class Mine(Iterative):
    """Fine-tuning, and something that it should not do."""

    about: ClassVar = ABOUT
    epochs: int = 1
    act: object = field(default=lambda task, loop: None)
    train_first: bool = True

    def run(self, task, loop):
        if self.train_first:
            self.train(task, loop, {"retain": task.preserved()})
        self.act(task, loop)


def spoils(act, promise, **settings):
    with pytest.raises(ContractError) as error:
        check_method(Mine(act=act, **settings), CNN, [promise])
    return str(error.value)


def test_a_good_method_keeps_every_promise_on_every_model():
    assert check_method(FineTune(epochs=1, lr=0.05)) == []
    assert set(MODELS) == {"CNN with batch norm", "MLP", "transformer"}


class TestItSees:
    def test_that_the_callers_model_changed(self):
        def act(task, loop):
            with torch.no_grad():
                task.model[0].weight.add_(1.0)

        assert "the caller's model changed" in spoils(act, "it changes a copy")

    def test_that_the_callers_modes_changed(self):
        assert "other flags or modes" in spoils(lambda task, loop: task.model.eval(), "it changes a copy")

    def test_that_the_callers_flags_changed(self):
        def act(task, loop):
            task.model[0].weight.requires_grad_(False)

        assert "other flags or modes" in spoils(act, "it changes a copy")

    def test_that_nothing_changed(self):
        text = spoils(lambda task, loop: loop.note(), "it changes a copy", train_first=False)
        assert "nothing changed in the student" in text

    def test_weights_that_are_not_finite(self):
        def act(task, loop):
            with torch.no_grad():
                loop.model[0].weight.fill_(torch.nan)

        assert "not finite" in spoils(act, "it changes a copy")

    def test_hooks_left_behind(self):
        def act(task, loop):
            loop.model.register_forward_hook(lambda module, inputs, output: None)

        assert "hooks were left" in spoils(act, "it changes a copy")

    def test_parameters_that_came_or_went(self):
        def act(task, loop):
            loop.model.register_buffer("more", torch.zeros(1))

        assert "other parameters or buffers" in spoils(act, "it changes a copy")

    def test_gradients_left_on_the_callers_model(self):
        def act(task, loop):
            task.model[0].weight.grad = torch.zeros_like(task.model[0].weight)

        assert "gradients were left behind" in spoils(act, "it changes a copy")

    def test_chance_that_the_seed_does_not_fix(self):
        def act(task, loop):
            unseeded = torch.Generator()
            unseeded.seed()
            with torch.no_grad():
                loop.model[0].weight.add_(torch.rand(loop.model[0].weight.shape, generator=unseeded))

        assert "one seed gave two results" in spoils(act, "one seed, one result")

    @pytest.mark.parametrize("part", ["holdout", "forget", "validation"])
    def test_a_part_read_that_it_does_not_name(self, part):
        def act(task, loop):
            task.parts[part][0]

        assert f"it read the parts ['{part}']" in spoils(act, "it reads what it says")

    def test_a_part_named_but_not_read(self):
        def act(task, loop):
            loop.note()
            with torch.no_grad():
                loop.model[0].weight.mul_(0.9)

        text = spoils(act, "it reads what it says", train_first=False)
        assert "it did not read the parts ['retain']" in text

    def test_frozen_parameters_that_move(self):
        def act(task, loop):
            with torch.no_grad():
                for p in loop.model.parameters():
                    p.add_(0.1)

        assert "frozen '0.weight'" in spoils(act, "frozen parameters stay")

    def test_masked_coordinates_that_move(self):
        def act(task, loop):
            loop.model = nn.Sequential(*loop.model)  # behind the back of the loop's masks
            loop._frozen.values.clear()
            loop.settle = lambda: None
            with torch.no_grad():
                loop.model[0].weight.add_(0.1)

        assert "masked coordinates of" in spoils(act, "masks hold")

    def test_steps_that_nobody_was_told_of(self):
        def act(task, loop):
            loop.history.append({"step": 99})

        text = spoils(act, "it tells every step")
        assert "were told" in text and "numbered from 1" in text

    def test_chance_that_a_checkpoint_does_not_hold(self):
        draw = torch.Generator().manual_seed(0)

        def loss(model, batch, generator):
            return cross_entropy(model, batch, generator) * torch.rand((), generator=draw)

        def act(task, loop):
            draw.manual_seed(0)
            Mine(batch_size=64).train(task, loop, {"retain": Role("retain", loss)})

        text = spoils(act, "it resumes to the same bits", train_first=False)
        assert "stopped and resumed, it does not end in the same bits" in text

    def test_what_a_hook_keeps_to_itself(self):
        def act(task, loop):
            seen = []
            hook = Hook(after_step=lambda: seen.append(1), end_epoch=lambda epoch: loop.note(seen=len(seen)))
            Mine(epochs=2).train(task, loop, {"retain": task.preserved()}, hooks=[hook])

        text = spoils(act, "it resumes to the same bits", train_first=False)
        assert "stopped and resumed, it tells another history" in text

    def test_preparations_that_are_not_the_same_again(self):
        times = []

        def act(task, loop):
            times.append(1)
            with torch.no_grad():
                loop.model[0].weight.add_(1e-3 * len(times))
            Mine().train(task, loop, {"retain": task.preserved()})

        text = spoils(act, "it resumes to the same bits", train_first=False)
        assert "Before phase 1 the weights were not to the bit what they had been" in text

    def test_another_plan_when_it_goes_on(self):
        times = []

        def act(task, loop):
            times.append(1)
            Mine(epochs=len(times)).train(task, loop, {"retain": task.preserved()})

        text = spoils(act, "it resumes to the same bits", train_first=False)
        assert "Phase 1 of the method is not the one that was saved (steps differ)" in text

    def test_a_crash(self):
        def act(task, loop):
            raise ZeroDivisionError("oh")

        assert "it raised ZeroDivisionError: oh" in spoils(act, "a large forget set")


class TestRefusals:
    def test_are_reported(self):
        class Picky(Mine):
            def check(self, task):
                if isinstance(task.model, nn.Sequential) and isinstance(task.model[0], nn.Flatten):
                    raise InvalidInputError("no pictures")

        refused = check_method(Picky(), promises=["a large forget set"])
        assert [(r.model, r.promise, r.reason) for r in refused] == [("MLP", "a large forget set", "no pictures")]

    def test_of_everything_are_a_fault(self):
        class Never(Mine):
            def check(self, task):
                raise InvalidInputError("never")

        with pytest.raises(ContractError, match="it refuses everything: never"):
            check_method(Never())

    def test_that_come_late_are_a_fault(self):
        def act(task, loop):
            raise InvalidInputError("too late")

        assert "it refused only after" in spoils(act, "a large forget set")


def test_all_broken_promises_are_listed_at_once():
    def act(task, loop):
        task.model.eval()
        task.parts["holdout"][0]

    with pytest.raises(ContractError, match="breaks 3 promises") as error:
        check_method(Mine(act=act), CNN, ["it changes a copy", "it reads what it says"])
    assert "other flags or modes" in str(error.value) and "holdout" in str(error.value)


def test_every_promise_has_a_name_and_the_base_needs_a_run():
    assert len(PROMISES) == 8
    with pytest.raises(TypeError, match="abstract"):
        Method()
