import pytest
import torch
from torch.testing import assert_close

from amnesty.errors import InvalidInputError
from amnesty.weights import per_sample_gradients, squared_gradients
from tests import tiny
from tests.weights import by_hand, zoo


@pytest.mark.parametrize("chunk", [1, 4, 32])
@pytest.mark.parametrize("make", [tiny.conv_net, tiny.attention, zoo.transformer])
def test_each_row_is_the_gradient_of_an_example(make, chunk):
    model, data = make(), zoo.examples(10)
    with zoo.untouched(model):
        blocks = list(per_sample_gradients(model, data, chunk=chunk))
    assert all(len(block["head.bias" if "head.bias" in block else "5.bias"]) <= chunk for block in blocks)
    for k, expected in enumerate(by_hand.gradients(model, data)):
        for name, value in expected.items():
            assert_close(torch.cat([block[name] for block in blocks])[k], value, rtol=1e-4, atol=1e-6)


def test_the_caller_never_sees_the_model_at_work():
    model = tiny.conv_net().train()
    state = torch.get_rng_state()
    for _ in per_sample_gradients(model, zoo.examples(10), chunk=4):
        assert all(module.training for module in model.modules())
        assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()


def test_names_and_frozen_parameters():
    model = tiny.mlp()
    model[1].bias.requires_grad_(False)
    (block,) = per_sample_gradients(model, zoo.examples(3), names=["3.bias", "1.bias"])
    assert {name: tuple(g.shape) for name, g in block.items()} == {"3.bias": (3, 3)}


def test_drawn_labels_are_those_of_the_squares():
    model, data = tiny.mlp(), zoo.examples(10)
    blocks = list(per_sample_gradients(model, data, "sampled", chunk=3, seed=5))
    mean = torch.cat([block["1.weight"] for block in blocks]).square().mean(0)
    assert_close(squared_gradients(model, data, "sampled", chunk=7, seed=5)["1.weight"], mean)


def test_refuses_what_has_more_than_one_gradient():
    with pytest.raises(InvalidInputError, match="`labels` must be one of true, sampled, norm"):
        next(per_sample_gradients(tiny.mlp(), zoo.examples(3), "expected"))
