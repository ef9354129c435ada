import torch

from amnesty.training.rewind import Snapshots
from tests import tiny


def test_it_goes_back_to_the_closest_the_last_of_equals():
    model, numbers = tiny.conv_net(), iter([0.0, 0.3, 0.5, 0.3])
    kept, states = Snapshots(model, lambda model: next(numbers)), [tiny.weights(model)]
    for epoch in (1, 2, 3):
        with torch.no_grad():
            model[5].bias.add_(1.0)
            model[1].running_mean.add_(1.0)
        kept.hook.end_epoch(epoch)
        states.append(tiny.weights(model))
    assert kept.measured == [0.0, 0.3, 0.5, 0.3]
    for wanted, best in [(-1.0, 0), (0.1, 0), (0.2, 3), (0.45, 2), (9.0, 2), (0.3, 3)]:
        assert kept.rewind(wanted) == best and tiny.same(tiny.weights(model), states[best])
