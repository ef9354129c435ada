import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, default_collate

import amnesty
from amnesty.data import Batches
from amnesty.errors import DataError, InvalidInputError
from amnesty.methods.kde import KDE
from amnesty.weights import renew_modules
from tests import tiny
from tests.methods.by_hand import assert_same_weights, by_hand, slope
from tests.methods.nets import deep_mlp, two_convs
from tests.methods.presteps import only_before_training

ENDS = ["1.weight", "1.bias", "5.weight", "5.bias"]


def kl(teacher, student, temperature):
    p, q = (x / temperature for x in (teacher, student))
    return (p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))).sum(1).mean()


def test_it_is_distillation_on_some_of_the_retain_set_and_then_both_on_all():
    task = tiny.task(deep_mlp())
    task.parts["validation"] = tiny.blobs(30, seed=8)
    method = KDE(
        lr=0.05, warm_up_lr=0.1, epochs=2, warm_up_epochs=1, batch_size=20, temperature=2.0, uses_validation=True,
        momentum=0.6, weight_decay=0.05, schedule="linear",
    )  # fmt: skip
    outcome = amnesty.unlearn(task, method, seed=3)
    model, teacher = copy.deepcopy(task.model), task.model
    renew_modules(model, ENDS, 3)

    part = SimpleNamespace(parts={"warm_up": task.parts["validation"]})

    def warm_up(student, batches):
        images = batches["warm_up"][0]
        return slope(student, kl(teacher(images), student(images), 2.0))

    common = {"pairing": "truncate", "momentum": 0.6, "weight_decay": 0.05, "seed": 3}
    model = by_hand(part, warm_up, {"warm_up": 20}, lr=0.1, epochs=1, schedule="constant", model=model, **common)
    steps = [b for epoch in (2, 3) for b in Batches(task.parts["retain"], 20, 3, "retain").iterate(epoch)]
    velocity = None
    for k, (images, labels) in enumerate(steps):
        said, now = teacher(images).detach(), model(images)
        soft = -((said / 2).softmax(1) * (now / 2).log_softmax(1)).sum(1).mean()
        loss = F.cross_entropy(now, labels) + soft + kl(said, now, 2.0)  # as published
        update = [g + 0.05 * p for g, p in zip(slope(model, loss), model.parameters(), strict=True)]
        velocity = update if velocity is None else [0.6 * v + u for v, u in zip(velocity, update, strict=True)]
        with torch.no_grad():
            for p, v in zip(model.parameters(), velocity, strict=True):
                p.sub_(0.05 * (1 - k / len(steps)) * v)
    assert_same_weights(outcome.model, model)
    assert len(outcome.history) == 2 + len(steps)


def test_only_the_first_layer_and_the_classifier_are_renewed():
    task = tiny.task(two_convs())
    model, calls = only_before_training(task, KDE())
    homes = {n.split(".")[0] for n, p in model.named_parameters() if not torch.equal(p, task.model.get_parameter(n))}
    assert homes == {"0", "7"} and len(calls) == 2
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("share", [0.15, 0.001, 1.0])
def test_the_warm_up_sees_a_share_of_the_retain_set_by_default(share):
    task = tiny.task(deep_mlp())
    task.parts["validation"] = tiny.blobs(30, seed=8)
    seen = {seed: only_before_training(task, KDE(warm_up_share=share), seed)[1][0]["parts"] for seed in (0, 1)}
    retained = {float(image.sum()) for image, _ in task.parts["retain"]}
    images = {seed: {float(image.sum()) for image, _ in parts["warm_up"]} for seed, parts in seen.items()}
    assert len(images[0]) == max(1, round(share * 108)) and images[0] <= retained
    assert images[0] != images[1] or share == 1.0


def test_the_warm_up_can_be_left_out():
    assert len(only_before_training(tiny.task(), KDE(warm_up_epochs=0))[1]) == 1


def test_validation_must_be_there_if_it_is_asked_for():
    with pytest.raises(InvalidInputError, match="warms up on the validation set, which this task does not have"):
        amnesty.unlearn(tiny.task(), KDE(uses_validation=True))
    assert KDE.about.uses == ("validation",)


def test_a_retain_set_of_which_no_share_can_be_taken_is_refused_before_any_work():
    task = tiny.task()
    loader = DataLoader(task.parts["retain"], batch_size=9, collate_fn=partial(default_collate))
    task = amnesty.Classification(task.model, forget=task.parts["forget"], retain=loader)
    with pytest.raises(DataError, match="reads the retain set in an order of its own"):
        KDE().check(task)


@pytest.mark.parametrize(
    "given", [{"temperature": 0}, {"warm_up_share": 0.0}, {"warm_up_lr": 0}, {"warm_up_epochs": -1}]
)
def test_settings_are_checked(given):
    with pytest.raises(InvalidInputError, match=f"`{next(iter(given))}` must be"):
        KDE(**given)
