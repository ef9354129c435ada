import pytest
import torch
from torch import nn

from amnesty.errors import ModelError
from amnesty.weights.fitting import classes_in, fitted, refuse_not_finite
from tests import tiny


def state(**changes):
    return tiny.conv_net().state_dict() | {name.replace("_", ".", 1): value for name, value in changes.items()}


def refused(tensors):
    with pytest.raises(ModelError) as found:
        fitted(tensors, tiny.conv_net(), "a.pt")
    assert "\n" not in str(found.value) and str(found.value).startswith("a.pt")
    return str(found.value)


class TestNames:
    def test_missing_ones(self):
        part = {name: value for name, value in state().items() if name != "5.bias"}
        assert "does not fit the Sequential: 1 tensors are missing (5.bias)" in refused(part)
        assert "only a part was saved" in refused(part)

    def test_ones_that_are_not_known(self):
        assert "1 tensors are not known to it (9.weight)" in refused(state(**{"9_weight": torch.zeros(1)}))

    def test_another_architecture(self):
        message = refused({f"layer{i}.weight": torch.zeros(1) for i in range(5)})
        assert "layer0.weight, layer1.weight, layer2.weight and 2 more" in message
        assert "another architecture" in message

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_prefix_that_is_too_much_is_named(self, reverse):
        names = sorted(state(), reverse=reverse)
        assert "without the prefix 'backbone.net.'" in refused({f"backbone.net.{n}": state()[n] for n in names})

    def test_nothing(self):
        assert "are missing" in refused({})


class TestShapes:
    def test_another_number_of_classes(self):
        message = refused(state(**{"5_weight": torch.zeros(7, 128), "5_bias": torch.zeros(7)}))
        assert "'5.weight' has shape [7, 128] there and [3, 128] here, and 1 more differ" in message
        assert "seem to be for 7 classes, the network is for 3" in message and "`model.classes`" in message

    def test_another_number_of_channels(self):
        assert "other options of the architecture" in refused(state(**{"0_weight": torch.zeros(8, 3, 3, 3)}))

    def test_the_classes_are_told_from_the_classifier(self):
        def net(classes, width=8):
            return nn.Sequential(nn.Linear(4, width), nn.Linear(width, classes))

        assert classes_in(net(7).state_dict(), net(3), 3) == 7
        assert classes_in(net(3).state_dict(), net(3), 3) is None
        assert classes_in(net(7, width=9).state_dict(), net(3), 3) is None
        assert classes_in({f"module.{k}": v for k, v in net(7).state_dict().items()}, net(3), 3) == 7

    def test_a_lazy_layer_takes_any_shape(self):
        model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
        tensors = nn.Sequential(nn.Flatten(), nn.Linear(5, 3)).state_dict()
        model.load_state_dict(fitted(tensors, model, "a.pt"))
        assert model(torch.zeros(1, 5)).shape == (1, 3)


class TestNumbers:
    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
    @pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
    def test_that_are_not_finite(self, name, bad):
        tensors = state()
        tensors[name].view(-1)[2] = bad
        message = refused(tensors)
        assert f"numbers of '{name}' are NaN or infinite" in message and ": 1 of" in message

    def test_that_overflow_on_the_way(self):
        tensors = state(**{"5_bias": torch.full((3,), 1e300, dtype=torch.float64)})
        assert "'5.bias' are NaN or infinite" in refused(tensors)

    def test_of_another_kind(self):
        assert "is of torch.int8" in refused(state(**{"5_bias": torch.zeros(3, dtype=torch.int8)}))

    def test_of_a_model_itself(self):
        model = tiny.conv_net()
        refuse_not_finite(model, "mine")
        model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        refuse_not_finite(model, "mine")
        for name, bad in (("mask", torch.nan), ("5.bias", torch.inf)):
            broken = tiny.conv_net()
            broken.register_buffer("mask", torch.zeros(2))
            broken.state_dict()[name][1] = bad
            with pytest.raises(ModelError, match=f"1 of . numbers of '{name}' are NaN"):
                refuse_not_finite(broken, "mine")
