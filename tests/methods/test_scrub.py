import copy

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Subset

import amnesty
from amnesty.data import Batches, Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods.scrub import SCRUB
from tests import tiny
from tests.methods.by_hand import assert_same_weights

GIVEN = {"temperature": 3.0, "alpha": 0.4, "gamma": 0.7}


def divergence(teacher, student) -> torch.Tensor:
    p, q = (torch.softmax(z / 3.0, dim=1) for z in (teacher, student))
    return 9.0 * (p * (p / q).log()).sum() / len(p)


def test_it_disobeys_and_obeys_in_turns():
    task = tiny.task(tiny.mlp())
    method = SCRUB(lr=0.05, epochs=4, ascent_epochs=2, batch_size=30, forget_batch_size=5, milestones=(1, 3), **GIVEN)
    outcome = amnesty.unlearn(task, method, seed=3)
    model, teacher = copy.deepcopy(task.model).train(), copy.deepcopy(task.model)
    sgd = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4)
    streams = {part: Batches(task.parts[part], n, 3, part) for part, n in (("forget", 5), ("retain", 30))}
    rates = []
    for epoch in range(1, 5):
        sgd.param_groups[0]["lr"] = 0.05 * 0.1 ** sum(epoch > mark for mark in (1, 3))
        for part in ("forget", "retain"):
            for images, labels in streams[part].iterate(epoch):
                if part == "forget" and epoch > 2:
                    continue
                sgd.zero_grad()
                with torch.no_grad():
                    said = teacher(images)
                loss = -divergence(said, model(images))
                if part == "retain":
                    loss = 0.7 * F.cross_entropy(model(images), labels) - 0.4 * loss
                loss.backward()
                sgd.step()
                rates.append(sgd.param_groups[0]["lr"])
    assert_same_weights(outcome.model, model)
    assert [r["lr"] for r in outcome.history] == pytest.approx(rates) and len(rates) == 2 * 3 + 4 * 4


@pytest.mark.parametrize("epochs", [1, 3])
def test_short_runs_train_at_the_full_rate(epochs):
    """Acceptance test 12."""
    history = amnesty.unlearn(tiny.task(tiny.mlp()), SCRUB(epochs=epochs)).history
    assert {record["lr"] for record in history} == {5e-4}
    one = amnesty.unlearn(tiny.task(tiny.mlp()), SCRUB(epochs=2, milestones=(1,))).history
    assert [record["lr"] for record in one] == pytest.approx([5e-4, 5e-4, 5e-5, 5e-5])


def test_the_schedule_goes_on_over_the_milestones():
    method = SCRUB(epochs=2, milestones=(1,), schedule="linear")
    history = amnesty.unlearn(tiny.task(tiny.mlp()), method).history
    assert [r["lr"] for r in history] == pytest.approx([5e-4, 3.75e-4, 2.5e-5, 1.25e-5])


def with_validation(model, gone=(2,)) -> amnesty.Classification:
    data, unseen = tiny.blobs(120), tiny.blobs(30, seed=4)
    parts = split(data, Classes(list(gone))).parts(data)
    return amnesty.Classification(model, forget=parts["forget"], retain=parts["retain"], validation=unseen)


def error(model, data, only=None) -> float:
    wrong = [
        float(model(image[None]).argmax() != label) for image, label in data if only is None or int(label) in only
    ]
    return sum(wrong) / len(wrong)


@pytest.mark.parametrize("lr", [0.3, 0.05, 0.01])
def test_a_rewind_goes_to_the_error_that_is_closest_to_that_of_unseen_examples(lr):
    task = with_validation(tiny.mlp())
    given = {"lr": lr, "alpha": 0.0, "gamma": 1.0, "temperature": 1.0, "ascent_epochs": 4, "milestones": ()}
    ends = [amnesty.unlearn(task, SCRUB(epochs=e, **given)).model if e else task.model for e in range(5)]
    wanted = error(ends[-1], tiny.blobs(30, seed=4), {2})
    errors = [error(end, task.parts["forget"]) for end in ends]
    best = min(range(5), key=lambda k: (abs(errors[k] - wanted), -k))
    outcome = amnesty.unlearn(task, SCRUB(epochs=4, rewind=True, **given))
    assert outcome.history[-1]["rewound_to"] == best
    assert outcome.history[-1]["wanted_error"] == pytest.approx(wanted)
    assert tiny.same(tiny.weights(outcome.model), tiny.weights(ends[best]))


def test_a_rewind_can_return_the_original():
    """Acceptance test 12: wrong labels are gone after one epoch, while unseen examples of the class are all right."""
    data, unseen = tiny.blobs(120), tiny.blobs(30, seed=4)
    wrong = torch.arange(120) % 6 == 2  # half of the last class as if it were the first, the other half the second
    retain = Examples(data.images[~wrong], data.labels[~wrong].clamp(max=1))
    forget = Examples(data.images[wrong], torch.zeros(20, dtype=torch.int64))
    recipe = amnesty.training.Recipe(epochs=5, batch_size=16, lr=0.05)
    model = amnesty.train(tiny.mlp(), ConcatDataset([forget, Subset(retain, range(0, 100, 5))]), recipe)
    unseen = Examples(unseen.images[unseen.labels == 0], unseen.labels[unseen.labels == 0])
    task = amnesty.Classification(model, forget=forget, retain=retain, validation=unseen)
    given = {"lr": 0.1, "epochs": 2, "ascent_epochs": 0, "batch_size": 8}
    assert error(model, forget) < 0.5 < error(amnesty.unlearn(task, SCRUB(**given)).model, forget)
    outcome = amnesty.unlearn(task, SCRUB(rewind=True, **given))
    assert outcome.history[-1]["rewound_to"] == outcome.history[-1]["wanted_error"] == 0
    assert tiny.same(tiny.weights(outcome.model), tiny.weights(model))


def test_a_rewind_needs_unseen_examples_of_the_forgotten_classes():
    with pytest.raises(InvalidInputError, match="give the task a `validation` part"):
        amnesty.unlearn(tiny.task(), SCRUB(rewind=True))
    amnesty.unlearn(tiny.task(), SCRUB())


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"temperature": 0.0}, "`temperature` must be a positive number"),
        ({"alpha": 0.0, "gamma": 0}, "`alpha` and `gamma` must not both be 0"),
        ({"alpha": -1}, "`alpha` must be"),
        ({"milestones": (0,)}, "`milestones` must hold whole numbers"),
        ({"ascent_epochs": -1}, "`ascent_epochs` must be"),
        ({"rewind": "yes"}, "`rewind` must be True or False"),
    ],
)
def test_settings_out_of_range_are_refused(given, reason):
    with pytest.raises(InvalidInputError, match=reason):
        SCRUB(**given)
