import pytest
from torch import nn

from amnesty.tasks import Distance
from amnesty.training import Loop
from amnesty.training.rounds import run_rounds, sees_batches_alone

NEAR, FAR = Distance(0.05, 0.9), Distance(0.6, 0.001)


class Told:
    """Says of a model, one call after the other, what it was told to say."""

    def __init__(self, distances, retained) -> None:
        self.distances, self.accuracies = iter(distances), iter(retained)

    def distance(self, model):
        return next(self.distances)

    def retained(self, model):
        return next(self.accuracies)


@pytest.mark.parametrize(
    ("distances", "retained", "made"),
    [
        ([FAR, NEAR], [1.0, 0.995], [(0.6, False)]),
        ([FAR, FAR, NEAR], [1.0, 1.0, 1.0], [(0.6, False), (0.6, False)]),
        ([NEAR, NEAR], [1.0, 1.0], [(1 / 3, False)]),  # one round is always made
        ([FAR, NEAR, NEAR], [1.0, 0.8, 1.0], [(0.6, False), (1 / 3, True)]),
        ([FAR, NEAR, FAR, NEAR], [1.0, 0.8, 0.99, 0.99], [(0.6, False), (1 / 3, True), (0.6, False)]),
        ([FAR] * 4, [1.0] * 4, [(0.6, False)] * 3),  # as many as are allowed
    ],
)
def test_they_end_when_the_forget_set_looks_unseen_and_the_rest_is_kept(distances, retained, made):
    found, loop = [], Loop(nn.Linear(1, 1), {})
    run_rounds(loop, Told(distances, retained), 3, lambda share, repair: found.append((share, repair)))
    assert found == made
    assert [(r["round"], r["repair"]) for r in loop.history] == [(k + 1, int(r)) for k, (_, r) in enumerate(made)]
    last = loop.history[-1]
    assert (last["distance"], last["retained"]) == (distances[len(made)].distance, retained[len(made)])


def test_only_batch_norm_that_is_trained_sees_batches_alone():
    normed = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    assert sees_batches_alone(normed, "train") and sees_batches_alone(normed, "retain_stats")
    assert not sees_batches_alone(normed, "eval") and not sees_batches_alone(nn.Linear(1, 1), "train")
