"""What the loop holds from some moment on, and passes that end early."""

import pytest
import torch

from amnesty.errors import InvalidInputError
from amnesty.tasks import Role, cross_entropy
from amnesty.training import Loop
from tests import tiny


def loop(masks=None, **given) -> Loop:
    return Loop(tiny.mlp(), {"retain": tiny.blobs(40)}, masks=masks or {}, **given)


def run(loop: Loop, **given) -> None:
    settings = {"epochs": 1, "batch_size": 8, **given}
    loop.run(
        {"retain": Role("retain", cross_entropy)},
        optimizer=lambda p, steps: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        **settings,
    )


def test_what_is_held_keeps_the_value_of_that_moment_through_all_runs():
    mine = loop()
    run(mine)
    mask = torch.rand(16, 36) < 0.5
    with torch.no_grad():
        mine.model[1].weight[~mask] = 0.0
    mine.hold({"1.weight": mask})
    for _ in range(2):
        run(mine)
        assert (mine.model[1].weight[~mask] == 0).all() and (mine.model[1].weight[mask] != 0).all()
    mine.model[1].weight.data.fill_(7.0)
    mine.settle()
    assert (mine.model[1].weight[~mask] == 0).all() and (mine.model[1].weight[mask] == 7).all()


def test_what_was_held_before_keeps_its_first_value():
    first, second = torch.rand(16, 36) < 0.5, torch.rand(16, 36) < 0.5
    mine = loop({"1.weight": first})
    start = mine.model[1].weight.detach().clone()
    mine.model[1].weight.data.fill_(7.0)
    mine.hold({"1.weight": second, "3.bias": torch.zeros(3, dtype=torch.bool)})
    run(mine)
    found = mine.model[1].weight
    assert torch.equal(found[~first], start[~first])
    assert (found[first & ~second] == 7).all() and (found[first & second] != 7).all()
    mine.replace(tiny.mlp())
    assert (mine.model[1].weight[first & ~second] == 7).all()


@pytest.mark.parametrize(
    ("epochs", "last", "steps"), [(1, 0.2, 1), (2, 0.5, 7), (4, 0.2, 16), (2, 0.01, 6), (2, 1, 10)]
)
def test_the_last_pass_may_end_early_and_the_schedule_knows(epochs, last, steps):
    seen = []
    mine = loop(watch=lambda record, total: seen.append((record["lr"], total)))
    run(mine, epochs=epochs, last_pass=last, schedule="linear")
    assert [total for _, total in seen] == [steps] * steps
    assert [lr for lr, _ in seen] == pytest.approx([0.1 * (1 - k / steps) for k in range(steps)])
    assert mine.epochs == epochs


@pytest.mark.parametrize("last", [0, -0.1, 1.1])
def test_a_share_of_a_pass_is_a_share(last):
    with pytest.raises(InvalidInputError, match=r"`last_pass` must be in \(0, 1\]"):
        run(loop(), last_pass=last)
