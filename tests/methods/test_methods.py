"""The table of methods, and what the door refuses."""

import pytest
import torch

import amnesty
from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.methods import MUNBa, method_named
from tests import tiny


def test_all_faults_of_a_method_are_named_at_once():
    with pytest.raises(InvalidInputError) as error:
        MUNBa(lr=-1, epochs=0, pairing="zip", batch_norm="off", momentum=-0.1)
    for setting in ("lr", "epochs", "pairing", "batch_norm", "momentum"):
        assert f"`{setting}`" in str(error.value)


def test_a_class_is_not_a_method():
    with pytest.raises(InvalidInputError, match=r"an instance of a method, such as `amnesty.methods.MUNBa\(\)`"):
        amnesty.unlearn(tiny.task(), MUNBa)


def test_unknown_names_get_a_suggestion():
    assert method_named("munba") is MUNBa
    with pytest.raises(UnknownNameError, match="Did you mean 'munba'"):
        method_named("numba")


def test_bad_data_is_refused_before_anything_is_trained():
    data = tiny.blobs()
    images = data.images.clone()
    images[3] = torch.nan
    broken = amnesty.data.Examples(images, data.labels)
    calls = []
    model = tiny.conv_net()
    before = tiny.weights(model)
    task = amnesty.Classification(model, forget=tiny.blobs(9, seed=2), retain=broken)
    with pytest.raises(amnesty.data.examples.DataError, match="Example 3 of the retain set holds NaN"):
        amnesty.unlearn(task, MUNBa(), progress=lambda record, total: calls.append(1))
    assert not calls and tiny.same(tiny.weights(model), before)
