import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from amnesty.data import Examples
from amnesty.errors import InvalidInputError, MissingReferenceError
from amnesty.evaluation.anamnesis import _drawn, _Pool, relearning
from amnesty.evaluation.relearning import relearn
from tests import tiny

QUICK = {"lr": 0.1, "batch_norm": "train", "batch_size": 32}


def wrong(count, seed):
    data = tiny.blobs(count, seed)
    return Examples(data.images, torch.randint(3, (count,), generator=torch.Generator().manual_seed(seed)))


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 64), nn.Tanh(), nn.Linear(64, 3))


def trained(*parts, steps=150, seed=0):
    """Train by hand; `relearn` does not hand out its model."""
    with torch.random.fork_rng():
        model = net()
    images, labels = (torch.cat([getattr(p, name) for p in parts]) for name in ("images", "labels"))
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(steps):
        sgd.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
        sgd.step()
    return model


@pytest.fixture(scope="module")
def world():
    forget, retain, unseen = wrong(30, 1), tiny.blobs(60, 2), wrong(40, 3)
    return {
        "forget": forget,
        "retain": retain,
        "unseen": unseen,
        "original": trained(forget, retain),
        "retrained": trained(retain),
    }


def compare(world, model, **more):
    sides = world["forget"], world["unseen"], world["retain"]
    return relearning(world[model], *sides, **({"original": world["original"]} | QUICK | more))


class TestRelearning:
    def test_the_original_remembers(self, world):
        found = compare(world, "original")
        assert found.ratio < 0.3
        assert found.high < 0.6
        assert found.p_value < 0.01
        assert found.resolution and not found.reason

    def test_a_retrained_model_learns_both_alike(self, world):
        found = compare(world, "retrained")
        assert 0.6 < found.ratio < 1.6
        assert found.low <= found.ratio <= found.high
        assert found.p_value > 0.01

    def test_the_sides_mirror_each_other(self, world):
        goal = 0.3
        one, other = (
            relearning(world["retrained"], *sides, world["retain"], goal=goal, **QUICK)
            for sides in ((world["forget"], world["unseen"]), (world["unseen"], world["forget"]))
        )
        assert [r.steps for r in one.forget] == [r.steps for r in other.control]
        assert one.ratio == pytest.approx(1 / other.ratio)

    def test_its_runs_are_those_of_relearn_under_the_originals_loss(self, world):
        found = compare(world, "retrained", seeds=3)
        assert len(found.forget) == len(found.control) == 3
        assert all(f.goal == c.goal for f, c in zip(found.forget, found.control, strict=True))
        assert max(f.losses[-1] <= f.goal or f.censored for f in found.forget)
        start = relearn(world["retrained"], world["forget"], goal=1e3).losses[0]
        assert found.forget[0].losses[0] == pytest.approx(start, rel=0.5)

    def test_the_ratio_is_of_median_steps_and_lies_in_its_interval(self, world):
        found = compare(world, "retrained", seeds=3)
        steps = [np.median([r.steps for r in side]) for side in (found.forget, found.control)]
        assert found.ratio == pytest.approx(steps[0] / steps[1])

    def test_follows_the_seed(self, world):
        one, same, other = (compare(world, "retrained", seeds=3, seed=s) for s in (0, 0, 1))
        assert one == same != other

    def test_loaders_will_do(self, world):
        sides = [DataLoader(world[name], batch_size=7) for name in ("forget", "unseen")]
        found = relearning(world["retrained"], *sides, goal=1.0, seeds=3, **QUICK)
        assert (
            found.count
            == relearning(world["retrained"], world["forget"], world["unseen"], goal=1.0, seeds=3, **QUICK).count
        )


class TestNoResolution:
    def test_a_goal_that_the_unseen_already_meet_tells_nothing(self, world):
        data = tiny.blobs(30, 8), tiny.blobs(30, 9)
        found = relearning(world["retrained"], *data, goal=0.6, measure="accuracy")
        assert found.ratio is found.low is found.high is None
        assert not found.resolution
        assert found.p_value == 1
        assert "meet the goal before the first step" in found.reason

    def test_a_goal_that_neither_side_meets_tells_nothing(self, world):
        found = compare(world, "retrained", steps=2)
        assert found.ratio is None
        assert (found.forget_censored, found.control_censored) == (5, 5)
        assert "Neither side met the goal" in found.reason
        assert found.p_value == 1

    def test_a_cap_that_one_side_hits_leaves_a_bound(self, world):
        found = compare(world, "original", steps=2)
        assert found.ratio == 0
        assert "An upper bound" in found.reason
        swapped = relearning(world["original"], world["unseen"], world["forget"], goal=0.05, steps=2, **QUICK)
        assert swapped.ratio is None or "A lower bound" in swapped.reason


class TestDraw:
    def pool(self, *counts):
        labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
        return _Pool.of(Examples(torch.arange(len(labels)).float()[:, None], labels), "pool")

    def test_takes_equally_many_of_each_class(self):
        parts = _drawn(self.pool(9, 6, 0), self.pool(3, 20, 7), 0)
        counts = [np.bincount([int(part[i][1]) for i in range(len(part))], minlength=3).tolist() for part in parts]
        assert counts == [[3, 6, 0]] * 2

    def test_differs_between_seeds_where_there_is_a_choice(self):
        draws = [[list(p.indices) for p in _drawn(self.pool(9, 9, 0), self.pool(30, 30, 0), s)] for s in (0, 0, 1)]
        assert draws[0] == draws[1]
        assert draws[0][0] == draws[2][0] == list(range(18))
        assert draws[0][1] != draws[2][1]

    def test_too_few_are_refused(self):
        with pytest.raises(InvalidInputError, match="at least 8 forgotten"):
            _drawn(self.pool(7, 0, 5), self.pool(30, 30, 0), 0)


class TestBadInput:
    def test_it_must_know_when_it_is_done(self, world):
        sides = world["forget"], world["unseen"]
        with pytest.raises(MissingReferenceError, match="either `original=` or `goal=`"):
            relearning(world["original"], *sides)
        with pytest.raises(InvalidInputError, match="either `original=` or `goal=`"):
            relearning(world["original"], *sides, original=world["original"], goal=0.1)

    @pytest.mark.parametrize("bad", [{"seeds": 2}, {"level": 1.0}, {"level": math.nan}])
    def test_settings_are_checked(self, world, bad):
        with pytest.raises(InvalidInputError, match="`seeds` must be at least 3"):
            compare(world, "original", **bad)
