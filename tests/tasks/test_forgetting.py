import math

import pytest
import torch
from torch.nn import functional as F

import amnesty
from amnesty import Classification
from amnesty.data import Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods import MUNBa
from amnesty.tasks import Mean, Seen
from amnesty.tasks.forgetting import (
    OTHERS,
    ascended,
    crossed,
    draw_labels,
    labelled_as,
    nearest_wrong,
    relabelled,
    shifted_images,
    uniform,
    unseen_like,
)
from amnesty.tasks.margins import margins
from tests import tiny
from tests.tasks.samples import confident, lookup_task


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_of(role, model, inputs, labels):
    return role.loss(model, (inputs, labels), generator())


def each(objective, logits, labels, seed=0):
    """What an objective gives each example."""
    return objective(Seen(torch.zeros(len(labels), 1), labels, logits), generator(seed))


def random_logits(count=6, classes=4):
    random = generator(7)
    return torch.randn(count, classes, generator=random), torch.randint(0, classes, (count,), generator=random)


class TestUnseenLike:
    def test_it_is_the_huber_loss_of_the_excess_over_quantiles_of_the_same_rank(self):
        table = torch.tensor([[3.0, 0.0], [0.5, 0.0], [6.0, 0.0], [-1.0, 0.0]])
        unseen = torch.tensor([-2.0, 0.0, 1.0, 1.5, 4.0])
        target = dict(zip((3, 1, 0, 2), torch.quantile(unseen, torch.tensor([1, 3, 5, 7]) / 8), strict=True))
        over = torch.stack([(table[k, 0] - target[k]).clamp(min=0) for k in range(4)])
        found = each(unseen_like({OTHERS: unseen}), table, torch.zeros(4, dtype=torch.int64))
        torch.testing.assert_close(found, torch.where(over < 1, over**2 / 2, over - 0.5))

    def test_each_class_has_margins_of_its_own(self):
        table = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]], requires_grad=True)
        high, low = torch.tensor([9.0]), torch.tensor([-9.0])
        each(unseen_like({1: low, OTHERS: high}), table, torch.tensor([0, 1])).mean().backward()
        assert table.grad[0].abs().max() == 0 < table.grad[1].abs().max()

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


class TestLabels:
    def test_relabelled_is_cross_entropy_with_labels_drawn_anew(self):
        logits, labels = random_logits()
        pool = torch.tensor([0, 2, 3])
        for exclude in (False, True):
            drawn = draw_labels(labels, pool, exclude, generator(5))
            expected = F.cross_entropy(logits, drawn, reduction="none")
            torch.testing.assert_close(each(relabelled(pool, exclude), logits, labels, seed=5), expected)

    @pytest.mark.parametrize("label", range(4))
    def test_labelled_as_is_cross_entropy_with_one_label_for_all(self, label):
        logits, labels = random_logits()
        expected = -logits.log_softmax(1)[:, label]
        torch.testing.assert_close(each(labelled_as(label), logits, labels), expected)


class TestAscended:
    def test_is_minus_the_cross_entropy_of_each_up_to_the_cap(self):
        logits, labels = random_logits()
        expected = F.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(each(ascended(), logits, labels), -expected)
        cap = expected.median().item()
        torch.testing.assert_close(each(ascended(cap), logits, labels), -expected.clamp(max=cap))


class TestUniform:
    def test_is_the_divergence_from_the_uniform_distribution(self):
        logits, labels = random_logits()
        expected = F.kl_div(logits.log_softmax(1), torch.full((6, 4), 0.25), reduction="none").sum(1)
        torch.testing.assert_close(each(uniform, logits, labels), expected)

    def test_is_least_zero_where_nothing_is_known(self):
        labels = torch.zeros(2, dtype=torch.int64)
        assert each(uniform, torch.full((2, 5), 3.0), labels).abs().max() < 1e-6
        logits = torch.zeros(2, 5, requires_grad=True)
        assert torch.autograd.grad(each(uniform, logits, labels).sum(), logits)[0].abs().max() < 1e-7
        assert (each(uniform, random_logits()[0], random_logits()[1]) > 0).all()


class Plane(torch.nn.Module):
    """A linear classifier of pixels; with ``normalised`` inputs it takes them back to pixels first."""

    def __init__(self, weight, mean=0.0, deviation=1.0):
        super().__init__()
        self.weight, self.mean, self.deviation = torch.nn.Parameter(weight), mean, deviation
        self.asked = []

    def forward(self, inputs):
        self.asked.append(inputs.detach())
        return (inputs * self.deviation + self.mean).flatten(1) @ self.weight.T


def by_hand(weight, pixels, labels, radius):
    """One step of FGSM for each picture, quantised, and the best wrong class there."""
    points, answers = [], []
    for x, y in zip(pixels.flatten(1), labels.tolist(), strict=True):
        chances = (weight @ x).softmax(0)
        slope = weight.T @ (chances - torch.eye(len(weight))[y])
        moved = torch.round((x + radius * slope.sign()).clamp(0, 1) * 255) / 255
        scores = (weight @ moved).tolist()
        points.append(moved)
        answers.append(max((c for c in range(len(scores)) if c != y), key=lambda c: scores[c]))
    return torch.stack(points), torch.tensor(answers)


class TestNearestWrong:
    WEIGHT = torch.randn(4, 12, generator=generator(1))
    PIXELS = torch.rand(40, 3, 2, 2, generator=generator(2))
    LABELS = torch.randint(0, 4, (40,), generator=generator(3))

    @pytest.mark.parametrize("radius", [0.02, 0.1, 0.5])
    def test_is_one_quantised_step_of_fgsm_in_pixels(self, radius):
        teacher = Plane(self.WEIGHT)
        found = crossed(teacher, self.PIXELS, self.LABELS, radius, 0.0, 1.0)
        points, answers = by_hand(self.WEIGHT, self.PIXELS, self.LABELS, radius)
        assert found.tolist() == answers.tolist()
        torch.testing.assert_close(teacher.asked[-1].flatten(1), points)
        levels = teacher.asked[-1] * 255
        assert (levels - levels.round()).abs().max() < 1e-3
        assert teacher.asked[-1].min() >= 0 and teacher.asked[-1].max() <= 1
        assert (teacher.asked[-1] - self.PIXELS).abs().max() <= radius + 0.5 / 255 + 1e-6

    def test_of_normalised_inputs_is_taken_in_pixels_too(self):
        mean, deviation = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.3, 0.1])[:, None, None]
        teacher = Plane(self.WEIGHT, mean, deviation)
        inputs = (self.PIXELS - mean) / deviation
        found = crossed(teacher, inputs, self.LABELS, 0.1, mean, deviation)
        points, answers = by_hand(self.WEIGHT, self.PIXELS, self.LABELS, 0.1)
        assert found.tolist() == answers.tolist()
        torch.testing.assert_close((teacher.asked[-1] * deviation + mean).flatten(1), points)

    @pytest.mark.parametrize("radius", [1e-6, 0.1])
    def test_is_never_the_true_class(self, radius):
        """Acceptance test 6. A model sure of the true class takes it beyond every small step."""
        for weight in (self.WEIGHT, 100 * self.WEIGHT):
            labels = (self.PIXELS.flatten(1) @ weight.T).argmax(1)
            found = crossed(Plane(weight), self.PIXELS, labels, radius, 0.0, 1.0)
            assert (found != labels).all()
        assert (crossed(Plane(torch.zeros(4, 12)), self.PIXELS, self.LABELS, radius, 0.0, 1.0) != self.LABELS).all()

    def test_is_what_the_student_learns_and_the_teacher_stays(self):
        teacher = Plane(self.WEIGHT).requires_grad_(False)
        student = Plane(self.WEIGHT.flip(0).clone())
        answers = by_hand(self.WEIGHT, self.PIXELS, self.LABELS, 0.1)[1]
        with torch.no_grad():  # as a caller may have it
            still = nearest_wrong(teacher, 0.1)(Seen(self.PIXELS, self.LABELS, student(self.PIXELS)), generator())
        loss = Mean(nearest_wrong(teacher, 0.1))(student, (self.PIXELS, self.LABELS), generator())
        torch.testing.assert_close(loss, F.cross_entropy(student(self.PIXELS), answers))
        torch.testing.assert_close(loss, still.mean())
        loss.backward()
        assert student.weight.grad is not None and teacher.weight.grad is None
        assert torch.equal(teacher.weight, self.WEIGHT)


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
