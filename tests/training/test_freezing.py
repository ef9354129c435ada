import pytest

from amnesty.errors import ModelError, UnknownNameError
from amnesty.training.freezing import only_trainable
from tests import tiny


def moving(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def test_only_what_is_named_may_move_and_flags_come_back():
    model = tiny.mlp()
    model[1].bias.requires_grad_(False)
    with only_trainable(model, ["1.bias", "3.weight"]):
        assert moving(model) == ["3.weight"]
    assert moving(model) == ["1.weight", "3.weight", "3.bias"]


def test_flags_come_back_after_an_error_and_from_within_another():
    model = tiny.mlp()
    with only_trainable(model, ["3.weight", "3.bias"]):
        with pytest.raises(ZeroDivisionError), only_trainable(model, ["1.weight", "3.bias"]):
            print(len(moving(model)) / 0)
        assert moving(model) == ["3.weight", "3.bias"]
        with only_trainable(model, ["1.weight", "3.bias"]):
            assert moving(model) == ["3.bias"]
    assert len(moving(model)) == 4


def test_names_must_be_known_and_one_of_them_able_to_move():
    model = tiny.mlp()
    model[3].requires_grad_(False)
    with pytest.raises(UnknownNameError, match=r"Did you mean '3.bias'"), only_trainable(model, ["3.bia"]):
        pass
    with pytest.raises(ModelError, match="All 2 parameters"), only_trainable(model, ["3.weight", "3.bias"]):
        pass
    assert moving(model) == ["1.weight", "1.bias"]
