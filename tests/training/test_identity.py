import functools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from amnesty.bargaining import Nash, Sum
from amnesty.data import Examples
from amnesty.errors import CheckpointError
from amnesty.methods import OMP, FineTune, MUNBa
from amnesty.training import Recipe
from amnesty.training.identity import described, differences, identity
from tests import tiny

CPU = torch.device("cpu")


def told(method=None, model=None, sources=None, masks=None, **settings):
    sources = {"forget": tiny.blobs(20), "retain": tiny.blobs(40, seed=2)} if sources is None else sources
    return identity(method or MUNBa(), model or tiny.mlp(), sources, masks or {}, CPU, **settings or {"seed": 0})


def test_equal_runs_are_equal():
    assert differences(told(), told()) == []


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"method": MUNBa(lr=0.5)}, "setting lr was None, is 0.5"),
        ({"method": MUNBa(rule=Sum())}, "setting rule was amnesty.bargaining.nash.Nash("),
        ({"method": MUNBa(rule=Nash(length="nash"))}, "length='unit'"),
        ({"method": FineTune()}, "method was amnesty.methods.munba.MUNBa, is amnesty.methods.finetune.FineTune"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"seed": 0, "precision": "bfloat16"}, "precision was absent, is 'bfloat16'"),
        ({"masks": {"1.weight": torch.ones(1, dtype=torch.bool)}}, "the masks is another"),
        ({"model": tiny.conv_net()}, "the model is another"),
        ({"sources": {"forget": tiny.blobs(21), "retain": tiny.blobs(40, seed=2)}}, "the forget set is another"),
        ({"sources": {"forget": tiny.blobs(20)}}, "retain set was sha256:"),
    ],
)
def test_what_differs_is_named(other, says):
    assert says in "; ".join(differences(told(), told(**other)))


def test_the_order_of_the_data_counts():
    data = tiny.blobs(20)
    turned = Examples(data.images.flip(0), data.labels.flip(0))
    assert differences(told(sources={"forget": data}), told(sources={"forget": turned}))


def test_machines_that_round_otherwise_are_no_other_run():
    first, second = told(), {**told(), "threads": "999"}
    assert differences(first, second) == []
    assert differences(first, second, soft=True) == [f"threads was {torch.get_num_threads()}, is 999"]


def test_loaders_are_refused_with_the_way_out():
    with pytest.raises(CheckpointError, match="retain set is a `DataLoader`.*Give the data set itself"):
        told(sources={"retain": DataLoader(tiny.blobs(20))})


def test_looking_at_the_data_leaves_the_random_state():
    before = torch.get_rng_state()
    told()
    assert torch.equal(torch.get_rng_state(), before)


class Plain:
    def __init__(self, x):
        self.x, self.own = x, self


class Slotted:
    __slots__ = ("x",)


@dataclass
class Holder:
    x: object


class TestDescribed:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: Plain(3),
            Slotted,
            lambda: Holder(lambda: 3),
            lambda: functools.partial(tiny.blobs, 3),
            lambda: OMP(method=FineTune(), recipe=Recipe(lr=0.3)),
            lambda: {"b", "a", "c"},
            lambda: torch.nn.Linear(2, 2).requires_grad_(False).train(False),
            lambda: np.arange(3),
            lambda: Holder(torch.Generator()),
        ],
    )
    def test_no_address_is_in_it(self, make):
        torch.manual_seed(0)
        first = described(make())
        torch.manual_seed(0)
        assert first == described(make()) and "0x" not in first

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (Plain(3), Plain(4)),
            (tiny.blobs, tiny.task),
            (functools.partial(tiny.blobs, 3), functools.partial(tiny.blobs, 4)),
            (np.arange(3), np.arange(1, 4)),
            (torch.zeros(2), torch.zeros(2, 1)),
            (1, 1.0),
            ("1", 1),
            ([1, 2], [12]),
            (tiny.mlp(), tiny.conv_net()),
            (FineTune(), FineTune(lr=0.5)),
        ],
    )
    def test_what_differs_differs(self, one, other):
        assert described(one) != described(other)
