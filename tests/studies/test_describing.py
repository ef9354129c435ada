import functools
import json

import numpy as np
import pytest
import torch

from amnesty.errors import InvalidInputError
from amnesty.methods import METHODS, OMP, MUNBa, Retrain
from amnesty.studies.describing import described, digest
from amnesty.training import Recipe
from tests import tiny


@pytest.mark.parametrize("method", METHODS.values())
def test_every_method_can_be_described(method):
    made = method(method=MUNBa()) if method is OMP else method()
    assert json.loads(json.dumps(described(made), allow_nan=False)) == described(made)
    assert described(made)["class"].endswith(method.__name__)


def test_every_setting_counts():
    default = described(MUNBa())
    others = [MUNBa(lr=0.123), MUNBa(epochs=7), MUNBa(forget_batch_size=33), MUNBa.paper()]
    assert len({digest(each) for each in [default, *map(described, others)]}) == 5
    assert digest(described(MUNBa())) == digest(default)


def test_settings_within_settings_count():
    found = [Retrain(recipe=Recipe(epochs=e), fresh=fresh) for e in (1, 2) for fresh in (None, tiny.mlp)]
    assert len({digest(described(each)) for each in found}) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.arange(3), np.arange(3.0)),
        (np.arange(4), np.arange(4).reshape(2, 2)),
        (torch.tensor([1.0]), torch.tensor([2.0])),
        (float("inf"), float("-inf")),
        (functools.partial(tiny.blobs, 3), functools.partial(tiny.blobs, 4)),
        ({"a": 1}, {"a": 2}),
        (True, "True"),
        (None, "None"),
        (torch.float32, torch.float64),
    ],
)
def test_different_things_differ(first, second):
    assert digest(described(first)) != digest(described(second))


def test_an_array_is_its_content():
    assert described(np.arange(6)[::2]) == described(np.array([0, 2, 4])) == described(torch.tensor([0, 2, 4]))
    assert described(np.float64(0.5)) == 0.5 and described(np.int64(2)) == 2


@pytest.mark.parametrize("nameless", [lambda x: x, functools.partial(lambda x: x, 1)])
def test_a_function_without_a_name_is_refused(nameless):
    with pytest.raises(InvalidInputError, match="nameless or local function"):
        described(nameless)


def test_what_is_no_data_is_refused():
    with pytest.raises(InvalidInputError, match="must be numbers, text"):
        described(object())
