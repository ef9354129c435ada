import pytest
import torch
from torch import nn

from amnesty.bargaining import Nash
from amnesty.training import Loop
from amnesty.training.batchnorm import BufferGuard, batch_norms, kept_statistics, set_modes
from tests import tiny


def run(policy: str, momentum: float | None = 0.1) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    task, model = tiny.task(), tiny.conv_net()
    batch_norms(model)[0].momentum = momentum
    before = tiny.weights(model)
    Loop(model, task.parts).run(
        {"forget": task.relabelled(), "retain": task.preserved()},
        optimizer=lambda p, steps: torch.optim.SGD(p, lr=0.0),
        epochs=2,
        rule=Nash(),
        batch_size=32,
        batch_norm=policy,
    )
    return model, before


@pytest.mark.parametrize("momentum", [0.1, None])
def test_retain_stats_follow_the_retain_batches_only(momentum):
    model, _ = run("retain_stats", momentum)
    alone = tiny.conv_net()
    batch_norms(alone)[0].momentum = momentum
    task = tiny.task()
    Loop(alone, task.parts).run(
        {"retain": task.preserved()},
        optimizer=lambda p, steps: torch.optim.SGD(p, lr=0.0),
        epochs=2,
        rule=Nash(),
        batch_size=32,
    )
    assert tiny.same(tiny.weights(model), tiny.weights(alone))


def test_train_follows_every_batch_and_eval_none():
    trained, before = run("train")
    assert trained[1].num_batches_tracked == 2 * run("retain_stats")[0][1].num_batches_tracked
    frozen, _ = run("eval")
    assert torch.equal(frozen[1].running_mean, before["1.running_mean"])
    assert not torch.equal(trained[1].running_mean, before["1.running_mean"])


def test_found_by_type_not_by_name():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), nn.BatchNorm1d(2), nn.LayerNorm(2))
    assert len(batch_norms(model)) == 2
    set_modes(model, "eval")
    assert model.training and not any(module.training for module in batch_norms(model))


def test_kept_statistics_normalise_by_the_batch():
    norm = nn.BatchNorm1d(2)
    with kept_statistics([norm]):
        output = norm(torch.tensor([[0.0, 5.0], [2.0, 9.0]]))
    assert torch.allclose(output, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), atol=1e-4)
    assert norm.num_batches_tracked == 0 and norm.track_running_stats


def test_a_guard_undoes_what_nan_did():
    norm = nn.BatchNorm1d(1)
    guard = BufferGuard(norm)
    norm(torch.tensor([[1.0], [3.0]]))
    guard.remember()
    good = norm.running_mean.clone()
    norm(torch.tensor([[torch.nan], [0.0]]))
    assert norm.running_mean.isnan().all()
    guard.restore()
    assert torch.equal(norm.running_mean, good)
