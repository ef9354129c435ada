import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty.errors import DataError, InvalidInputError
from amnesty.methods.boundary_shrink import BoundaryShrink
from amnesty.tasks import frozen
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, batches_that_moved_statistics, by_hand, slope

SCALE = {"mean": [0.5], "std": [0.1]}


def neighbours(model, images, labels) -> torch.Tensor:
    """One example at a time."""
    found = []
    for image, label in zip(images, labels, strict=True):
        pixels = (0.1 * image + 0.5)[None].requires_grad_()
        F.cross_entropy(model((pixels - 0.5) / 0.1), label[None]).backward()
        moved = ((pixels + 0.2 * pixels.grad.sign()).clamp(0, 1) * 255).round() / 255
        scores = model((moved - 0.5) / 0.1)[0].tolist()
        found.append(max((c for c in range(tiny.CLASSES) if c != label), key=lambda c: scores[c]))
    return torch.tensor(found)


@pytest.mark.parametrize("in_memory", [True, False])
def test_it_is_ordinary_training_towards_the_nearest_wrong_class(in_memory):
    """Acceptance test 6: no target is the true label."""
    task, data = tiny.task(tiny.mlp()), tiny.task().parts["forget"]
    forget = data if in_memory else [(image, int(label)) for image, label in data]
    asked = amnesty.Classification(task.model, forget=forget)  # and no retain set
    outcome = amnesty.unlearn(asked, BoundaryShrink(radius=0.2, batch_size=5, **SCALE, **SETTINGS), seed=3)
    original, targets = frozen(task.model), []

    def direction(model, batches):
        images, labels = batches["forget"]
        targets.append((labels, neighbours(original, images, labels)))
        return slope(model, F.cross_entropy(model(images), targets[-1][1]))

    expected = by_hand(asked, direction, {"forget": 5}, pairing="sequential", seed=3, **SETTINGS)
    assert_same_weights(outcome.model, expected)
    assert all((target != labels).all() for labels, target in targets) and len(targets) == 9
    assert not tiny.same(tiny.weights(outcome.model), tiny.weights(task.model))


def test_batch_norm_may_be_held():
    task = tiny.task()
    assert batches_that_moved_statistics(amnesty.unlearn(task, BoundaryShrink(**SCALE))) == 10
    assert batches_that_moved_statistics(amnesty.unlearn(task, BoundaryShrink(batch_norm="eval", **SCALE))) == 0


def test_data_that_are_no_pixels_are_refused_before_anything_is_trained():
    with pytest.raises(DataError, match=r"Pixels of the forget set are in .* give the `mean` and `std`"):
        amnesty.unlearn(tiny.task(), BoundaryShrink(), progress=lambda *_: pytest.fail("trained"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"std": (0.0,)}, "`std` positive ones"),
        ({"mean": ()}, "`mean` must hold"),
        ({"radius": 0}, "`radius` must be"),
    ],
)
def test_settings_out_of_range_are_refused(given, reason):
    with pytest.raises(InvalidInputError, match=reason):
        BoundaryShrink(**given)
