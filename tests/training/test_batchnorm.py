import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from amnesty.bargaining import Nash
from amnesty.tasks import Role
from amnesty.training import BATCH_NORM_POLICIES, Loop
from amnesty.training.batchnorm import BufferGuard, Statistics, batch_norms, set_modes
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


class Checkpointed(nn.Module):
    """Computes its convolution and its batch norm a second time in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(tiny.conv_net())
        self.body, self.head = nn.Sequential(*layers[:2]), nn.Sequential(nn.ReLU(), *layers[4:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(checkpoint(self.body, x, use_reentrant=False))


def test_forget_batches_do_not_move_statistics_when_a_checkpoint_recomputes_them():
    task = tiny.task()
    found = []
    for players in ({"forget": task.relabelled(), "retain": task.preserved()}, {"retain": task.preserved()}):
        model = Checkpointed()
        Loop(model, task.parts).run(
            players,
            optimizer=lambda p, steps: torch.optim.SGD(p, lr=0.0),
            epochs=2,
            rule=Nash(),
            batch_size=32,
            batch_norm="retain_stats",
        )
        found.append(tiny.weights(model))
    assert tiny.same(*found) and found[0]["body.1.num_batches_tracked"] > 0


class TestFrozen:
    @pytest.mark.parametrize("policy", BATCH_NORM_POLICIES)
    def test_batch_norms_stay_as_they_are(self, policy):
        task, model = tiny.task(), tiny.conv_net()
        model[1].requires_grad_(False)
        before = tiny.weights(model)
        Loop(model, task.parts).run(
            {"forget": task.relabelled(), "retain": task.preserved()},
            optimizer=lambda p, steps: torch.optim.SGD(p, lr=0.1),
            epochs=1,
            rule=Nash(),
            batch_norm=policy,
        )
        after = tiny.weights(model)
        assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("1."))
        assert not torch.equal(after["0.weight"], before["0.weight"])

    def test_by_halves_is_not_frozen(self):
        model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))
        model[0].requires_grad_(False)
        model[1].weight.requires_grad_(False)
        set_modes(model, "train")
        assert [module.training for module in model] == [False, True, True, True]


class TestStatistics:
    BATCH = torch.tensor([[0.0, 5.0], [2.0, 9.0]])

    def test_that_do_not_follow_normalise_by_the_batch(self):
        norm = nn.BatchNorm1d(2)
        statistics = Statistics(norm)
        statistics.follow(False)
        assert torch.allclose(norm(self.BATCH), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), atol=1e-4)
        assert norm.num_batches_tracked == 0 and torch.equal(norm.running_mean, torch.zeros(2))
        statistics.follow(True)
        norm(self.BATCH)
        assert norm.num_batches_tracked == 1 and torch.allclose(norm.running_mean, torch.tensor([0.1, 0.7]))

    def test_leave_alone_what_has_none_and_what_is_evaluated(self):
        without, used = nn.BatchNorm1d(2, track_running_stats=False), nn.BatchNorm1d(2).eval()
        statistics = Statistics(nn.Sequential(without, used))
        for wanted in (False, True):
            statistics.follow(wanted)
            assert not without.track_running_stats and used.track_running_stats
        assert torch.allclose(used(self.BATCH), self.BATCH, atol=1e-3)

    def test_are_followed_again_after_an_error(self):
        def broken(model, batch, generator):
            raise ZeroDivisionError

        task, model = tiny.task(), tiny.conv_net()
        with pytest.raises(ZeroDivisionError):
            Loop(model, task.parts).run(
                {"forget": Role("forget", broken), "retain": task.preserved()},
                optimizer=lambda p, steps: torch.optim.SGD(p, lr=0.1),
                epochs=1,
                rule=Nash(),
                batch_norm="retain_stats",
            )
        assert model[1].track_running_stats


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
