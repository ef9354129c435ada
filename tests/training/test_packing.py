import json
import math
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import nn

from amnesty.errors import CheckpointError
from amnesty.training.packing import pack, unpack


def round_trip(value):
    tensors = []
    return unpack(json.loads(json.dumps(pack(value, tensors))), tensors)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        2**80,
        0.1 + 0.2,
        5e-324,
        1.7976931348623157e308,
        -0.0,
        math.inf,
        "text with \u2028 and \ud83d",
        [],
        (),
        {},
        [1, (2, [3, ("4",)])],
        {"a": {"b": (None, False)}},
        {0: "zero", "0": "text"},
        {(1, 2): 3},
        {"!": "tensor", "at": 7},
        [{"!": 1}, {"at": 2}],
    ],
)
def test_values_come_back_as_they_were(value):
    found = round_trip(value)
    assert found == value and repr(found) == repr(value)


def test_nan_comes_back():
    assert math.isnan(round_trip({"loss": math.nan})["loss"])


def test_tensors_and_arrays_come_back_where_they_were():
    value = {"state": {0: {"step": torch.tensor(3.0), "parts": [torch.arange(3), None]}}, "array": np.arange(4.0)}
    found = round_trip(value)
    assert found["state"][0]["step"].item() == 3 and found["state"][0]["parts"][1] is None
    assert torch.equal(found["state"][0]["parts"][0], torch.arange(3))
    assert isinstance(found["array"], np.ndarray) and (found["array"] == np.arange(4.0)).all()


def test_tensors_are_not_copied():
    tensors, mine = [], torch.zeros(3)
    pack({"x": [mine]}, tensors)
    assert tensors[0].data_ptr() == mine.data_ptr()


def test_numbers_of_numpy_and_other_mappings_become_plain():
    found = round_trip(MappingProxyType({"a": np.float64(0.1), "b": np.int64(3), "c": np.bool_(True)}))
    assert found == {"a": 0.1, "b": 3, "c": True} and type(found["c"]) is bool


@pytest.mark.parametrize("value", [object(), {1}, len, nn.Linear(1, 1), torch.float32, b"bytes"])
def test_what_cannot_be_saved_is_named(value):
    with pytest.raises(CheckpointError, match=r"state\['optimizer'\]\[1\] is a " + type(value).__name__):
        pack({"optimizer": [0, value]}, [])


def test_sparse_tensors_are_refused():
    with pytest.raises(CheckpointError, match="state is a sparse or quantised tensor"):
        pack(torch.eye(2).to_sparse(), [])
