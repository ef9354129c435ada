import math

import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty import Classification
from amnesty.data import Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods import MUNBa
from amnesty.tasks.forgetting import OTHERS, draw_labels, shifted_images, unseen_like
from amnesty.tasks.margins import margins
from tests import tiny
from tests.tasks.samples import Lookup, confident, lookup_task


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_of(role_or_loss, model, inputs, labels):
    loss = getattr(role_or_loss, "loss", role_or_loss)
    return loss(model, (inputs, labels), generator())


class TestUnseenLike:
    def test_it_is_the_huber_loss_of_the_excess_over_quantiles_of_the_same_rank(self):
        table = torch.tensor([[3.0, 0.0], [0.5, 0.0], [6.0, 0.0], [-1.0, 0.0]])
        model, labels = Lookup(table), torch.zeros(4, dtype=torch.int64)
        unseen = torch.tensor([-2.0, 0.0, 1.0, 1.5, 4.0])
        target = dict(zip((3, 1, 0, 2), torch.quantile(unseen, torch.tensor([1, 3, 5, 7]) / 8), strict=True))
        over = torch.stack([(table[k, 0] - target[k]).clamp(min=0) for k in range(4)])
        expected = torch.where(over < 1, over**2 / 2, over - 0.5).mean()
        found = loss_of(unseen_like({OTHERS: unseen}), model, torch.arange(4.0)[:, None], labels)
        torch.testing.assert_close(found, expected)

    def test_each_class_has_margins_of_its_own(self):
        table = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
        model, labels = Lookup(table), torch.tensor([0, 1])
        high, low = torch.tensor([9.0]), torch.tensor([-9.0])
        loss = unseen_like({1: low, OTHERS: high})
        loss_of(loss, model, torch.arange(2.0)[:, None], labels).backward()
        assert model.table.grad[0].abs().max() == 0 < model.table.grad[1].abs().max()

    def test_a_whole_class_is_measured_against_what_the_retain_set_has_for_it(self, device):
        kept, gone = torch.arange(12) % 2, torch.full((4,), 2)
        parts = {"forget": (confident(gone, 3, 5.0), gone), "retain": (confident(kept, 3, 3.0), kept)}
        task = lookup_task(parts, device)
        assert task.knows_unseen
        role, wanted = task.unseen_like(), margins(confident(kept, 3, 3.0)[:1], torch.tensor([2]))
        with torch.no_grad():  # the margin of the forgotten class falls to that of the retained examples
            task.model.table[:4] = torch.tensor([0.0, 0.0, wanted.item() + math.log(2)], device=device)
        inputs, labels = task.parts["forget"][[0, 1, 2, 3]]
        at_rest = loss_of(role, task.model, inputs.to(device), labels.to(device))
        assert at_rest.item() == pytest.approx(0, abs=1e-10)
        with torch.no_grad():
            task.model.table[:4, 2] += 1
        assert loss_of(role, task.model, inputs.to(device), labels.to(device)).item() == pytest.approx(0.5, abs=1e-5)

    def test_shifted_images_stand_in_for_a_validation_part(self):
        data = Examples(torch.rand(40, 1, 16, 16, generator=generator()), torch.arange(40) % 2)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
        half = data[list(range(20))], data[list(range(20, 40))]
        task = Classification(net, forget=Examples(*half[0]), retain=Examples(*half[1]))
        assert not task.knows_unseen
        inputs, labels = half[0]
        before = torch.get_rng_state()
        role = task.unseen_like(shifted=True)
        assert torch.equal(torch.get_rng_state(), before)
        assert (
            loss_of(role, net, inputs, labels).item() == loss_of(task.unseen_like(True), net, inputs, labels).item()
        )
        bolder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
        bolder.load_state_dict({k: 50 * v for k, v in net.state_dict().items()})
        assert loss_of(role, bolder, inputs, labels) > loss_of(role, net, inputs, labels)

    def test_only_images_can_be_shifted(self):
        data = Examples(torch.rand(20, 16), torch.arange(20) % 2)
        task = Classification(
            torch.nn.Linear(16, 2), forget=Examples(*data[[0, 1]]), retain=Examples(*data[list(range(2, 20))])
        )
        with pytest.raises(InvalidInputError, match="Only images of at least 8 x 8"):
            task.unseen_like(shifted=True)


class TestShiftedImages:
    def test_each_is_a_window_of_the_mirrored_image(self):
        images = torch.arange(2 * 16 * 24.0).reshape(2, 1, 16, 24)
        moved = shifted_images(images, generator())
        padded = F.pad(images, (3, 3, 2, 2), mode="reflect")
        for image, found in zip(padded, moved, strict=True):
            windows = [image[:, r : r + 16, c : c + 24] for r in range(5) for c in range(7)]
            assert sum(torch.equal(found, window) for window in windows) == 1

    def test_all_offsets_occur_and_a_seed_fixes_them(self):
        images = torch.arange(256.0).reshape(1, 1, 16, 16).expand(500, -1, -1, -1)
        first = shifted_images(images, generator())
        assert len({tuple(image[0, 8, 8:10].tolist()) for image in first}) == 25
        assert torch.equal(first, shifted_images(images, generator()))
        assert not torch.equal(first, shifted_images(images, generator(1)))


def test_labels_are_drawn_from_the_pool_without_the_true_one():
    labels = torch.tensor([0, 2, 5, 7] * 500)
    drawn = draw_labels(labels, torch.tensor([0, 2, 5]), True, generator())
    assert (drawn != labels).all()
    assert set(drawn[labels == 7].tolist()) == {0, 2, 5}
    assert set(drawn[labels == 2].tolist()) == {0, 5}
    with pytest.raises(InvalidInputError, match="Only one class is kept"):
        draw_labels(labels, torch.tensor([2]), True, generator())


def test_a_class_is_forgotten_as_if_it_had_never_been_there():
    data = tiny.blobs(240)
    parts = split(data, Classes([1])).parts(data)
    model = amnesty.train(tiny.conv_net(), data, amnesty.Recipe(epochs=8, batch_size=32))
    task = Classification(model, forget=parts["forget"], retain=parts["retain"], holdout=tiny.blobs(90, seed=5))
    before, after = (amnesty.evaluate(task, m) for m in (model, amnesty.unlearn(task, MUNBa()).model))
    assert before["forget_accuracy"] > 0.95 < before["holdout_forgotten_accuracy"]
    assert after["forget_accuracy"] < 0.1 > after["holdout_forgotten_accuracy"]
    assert after["retain_accuracy"] > 0.97
