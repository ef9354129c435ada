import copy
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Subset

import amnesty
from amnesty.data import Together
from amnesty.errors import InvalidInputError
from amnesty.methods.bad_teacher import BadTeacher, ignorant
from amnesty.seeds import derive, generator
from tests import tiny
from tests.methods.by_hand import SETTINGS, assert_same_weights, by_hand, slope


def test_it_imitates_two_teachers():
    task = tiny.task(tiny.mlp())
    method = BadTeacher(optimizer="sgd", temperature=2.0, retained=0.4, batch_size=9, **SETTINGS)
    outcome = amnesty.unlearn(task, method, seed=3)
    teachers = [ignorant(task.model, derive(3, "bad teacher")), copy.deepcopy(task.model)]
    kept = torch.randperm(108, generator=generator(3, "retained"))[:43].sort().values

    def direction(model, batches):
        (images, _), origin = batches["together"]
        loss = 0.0
        for image, teacher in zip(images, origin.tolist(), strict=True):
            p, q = (torch.softmax(m(image[None]) / 2.0, dim=1) for m in (teachers[teacher], model))
            loss = loss + (p.detach() * (p.detach() / q).log()).sum() / len(images)
        return slope(model, loss)

    both = Together([task.parts["forget"], Subset(task.parts["retain"], kept.tolist())])
    source = SimpleNamespace(model=task.model, parts={"together": both})
    expected = by_hand(source, direction, {"together": 9}, pairing="sequential", seed=3, **SETTINGS)
    assert_same_weights(outcome.model, expected)


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_bad_teacher_knows_nothing(name):
    model = tiny.MODELS[name]()
    first = next(model.parameters()).requires_grad_(False)
    model(tiny.blobs(9).images)  # moves statistics
    bad = ignorant(model, 5)
    assert tiny.same(tiny.weights(bad), tiny.weights(ignorant(model, 5)))
    assert not first.requires_grad
    for (key, p), q in zip(bad.named_parameters(), model.parameters(), strict=True):
        assert p.dim() < 2 or not torch.equal(p, q), key
    if name == "conv":
        assert bad[1].num_batches_tracked == 0


def test_by_default_adam_moves_each_weight_by_its_rate_in_the_first_step():
    task = tiny.task(tiny.mlp(), count=60)
    outcome = amnesty.unlearn(task, BadTeacher())
    assert len(outcome.history) == 1
    for p, q in zip(outcome.model.parameters(), task.model.parameters(), strict=True):
        assert (p - q).abs().median().item() == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(("share", "steps"), [(1e-6, 2), (0.3, 5), (1.0, 12)])
def test_a_share_of_the_retain_set_is_read(share, steps):
    assert len(amnesty.unlearn(tiny.task(tiny.mlp()), BadTeacher(retained=share, batch_size=10)).history) == steps


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"retained": 0.0}, "`retained` must be in"), ({"temperature": 0.0}, "`temperature` must be a positive")],
)
def test_settings_out_of_range_are_refused(given, reason):
    with pytest.raises(InvalidInputError, match=reason):
        BadTeacher(**given)
