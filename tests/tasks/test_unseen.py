import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from amnesty import Classification
from amnesty.data import Examples
from amnesty.errors import InvalidInputError
from amnesty.tasks import Accompanied, Distance, Unseen, cross_entropy
from amnesty.tasks.forgetting import OTHERS
from amnesty.tasks.objectives import truth
from amnesty.tasks.unseen import LIKE
from tests import tiny

CLASSES = 3


class Table(nn.Module):
    """Logits by the number that an input is; margins of class 0 are its numbers."""

    def __init__(self, margins: torch.Tensor) -> None:
        super().__init__()
        self.margins = nn.Parameter(margins.float())

    def forward(self, x):
        own = self.margins[x[:, 0].long()]
        rest = torch.full_like(own, -math.log(CLASSES - 1))
        return torch.stack([own, *[rest] * (CLASSES - 1)], dim=1)


def examples(first: int, count: int, label: int = 0) -> Examples:
    return Examples(torch.arange(first, first + count).float()[:, None], torch.full((count,), label))


def asked(forget, validation, label=0, sets=False, retain=8):
    """A task whose forget set and validation part have the margins given; the retain set knows every class."""
    n, m = len(forget), len(validation)
    kept = Examples(torch.arange(n + m, n + m + retain).float()[:, None], torch.arange(retain) % CLASSES)
    model = Table(torch.cat([torch.as_tensor(forget), torch.as_tensor(validation), torch.zeros(retain)]))
    own = examples(0, n, label)
    given = {"a": examples(0, n // 2, label), "b": examples(n // 2, n - n // 2, label)} if sets else own
    return Classification(model, forget=given, retain=kept, validation=examples(n, m, label))


def moved(task, by):
    """The same model with all margins raised by so much."""
    return Table(task.model.margins.detach() + by)


class TestTheDistance:
    @pytest.mark.parametrize(("shift", "n", "m"), [(0.0, 40, 60), (1.0, 40, 60), (-1.0, 25, 25), (6.0, 30, 7)])
    def test_is_the_one_sided_kolmogorov_smirnov_statistic(self, shift, n, m):
        random = np.random.default_rng(3)
        forget, unseen = random.normal(shift, 1, n), random.normal(0, 1, m)
        found = Unseen(asked(forget, unseen)).distance(asked(forget, unseen).model)
        expected = stats.ks_2samp(forget, unseen, alternative="less", method="asymp")
        assert found.distance == pytest.approx(expected.statistic, abs=1e-6)
        assert found.likeness == pytest.approx(math.exp(-2 * expected.statistic**2 * n * m / (n + m)), rel=1e-4)

    def test_is_nought_for_a_forget_set_that_is_less_sure(self):
        task = asked(torch.linspace(-9, -8, 20), torch.linspace(0, 1, 20))
        assert Unseen(task).distance(task.model) == Distance(0.0, 1.0)

    def test_a_quarter_of_samples_that_are_alike_count_as_different(self):
        random = np.random.default_rng(0)
        found = []
        for _ in range(400):
            task = asked(random.normal(0, 1, 100), random.normal(0, 1, 150), retain=3)
            found.append(Unseen(task).distance(task.model).like)
        assert np.mean(found) == pytest.approx(1 - LIKE, abs=0.07)

    def test_is_that_of_the_set_that_is_farthest_away(self):
        forget = torch.cat([torch.linspace(0, 1, 10), torch.linspace(5, 6, 10)])
        task = asked(forget, torch.linspace(0, 1, 10), sets=True)
        assert Unseen(task).distance(task.model).distance == 1.0
        assert Unseen(asked(forget[:10], torch.linspace(0, 1, 10))).distance(task.model).distance < 0.2

    def test_needs_unseen_examples(self):
        with pytest.raises(InvalidInputError, match="needs a `validation` part"):
            Unseen(tiny.task())


class TestTheTarget:
    def test_is_the_larger_of_what_unseen_examples_were_and_are(self):
        task = asked(torch.full((8,), 9.0), torch.tensor([1.0, 2.0, 3.0, 4.0]))
        unseen = Unseen(task)
        first = unseen.targets(task.model)[OTHERS]
        torch.testing.assert_close(first, torch.tensor([1.0, 2.0, 3.0, 4.0]))
        torch.testing.assert_close(unseen.targets(moved(task, 2.0))[OTHERS], first + 2)
        torch.testing.assert_close(unseen.targets(moved(task, -2.0))[OTHERS], first)

    def test_follows_wrong_labels_down(self):
        task = asked(torch.full((8,), 9.0), torch.tensor([-4.0, -3.0, -2.0, -1.0]))
        unseen = Unseen(task)
        for by in (-5.0, 0.5):
            expected = torch.tensor([-4.0, -3.0, -2.0, -1.0]) + by
            torch.testing.assert_close(unseen.targets(moved(task, by))[OTHERS], expected)

    def test_of_a_whole_class_stays_what_the_original_gave_the_retain_set(self):
        data = tiny.blobs(60)
        gone = data.labels == 2
        parts = [Examples(data.images[chosen], data.labels[chosen]) for chosen in (gone, ~gone)]
        task = Classification(tiny.mlp(), forget=parts[0], retain=parts[1])
        unseen = Unseen(task)
        assert unseen.gone and unseen.targets(task.model).keys() == {2}
        other = tiny.mlp()
        with torch.no_grad():
            other[-1].bias[2] -= 7
        torch.testing.assert_close(unseen.targets(other)[2], unseen.targets(task.model)[2], rtol=0, atol=0)


class TestAWholeClass:
    """Where the validation part has examples of it."""

    @staticmethod
    def asked(validation, forget=(5.0, 6.0), label=0):
        """Class 0 is forgotten; the retain set has margins of -3 for it."""
        n, m = len(forget), len(validation)
        kept = Examples(torch.arange(n + m, n + m + 4).float()[:, None], torch.tensor([1, 2, 1, 2]))
        model = Table(torch.cat([torch.as_tensor(forget), torch.as_tensor(validation), torch.full((4,), -3.0)]))
        parts = {"forget": examples(0, n), "retain": kept, "validation": examples(n, m, label)}
        return Classification(model, **parts)

    def test_wants_to_be_no_surer_than_unseen_examples_of_it_and_than_the_retain_set_was(self):
        task = self.asked(torch.linspace(1.0, 2.0, 8))
        unseen = Unseen(task)
        torch.testing.assert_close(unseen.targets(task.model)[0], torch.full((4,), -3.0))
        found = unseen.targets(moved(task, -4.5))[0]  # unseen examples of the class have -3.5 to -2.5 by then
        assert found[0] < -3.3 and found[-1] == -3.0 and found.diff().min() >= 0

    @pytest.mark.parametrize(("count", "label"), [(7, 0), (20, 1)])
    def test_needs_enough_of_them(self, count, label):
        task = self.asked(torch.linspace(1.0, 2.0, count), label=label)
        torch.testing.assert_close(Unseen(task).targets(moved(task, -9.0))[0], torch.full((4,), -3.0))

    def test_is_far_from_both(self):
        task = self.asked(torch.full((20,), 9.0), forget=torch.full((20,), 5.0))
        unseen = Unseen(task)
        assert unseen.distance(task.model).distance == 1.0  # from the retain set: less sure than unseen ones
        task = self.asked(torch.full((20,), -9.0), forget=torch.full((20,), -5.0))
        assert Unseen(task).distance(task.model).distance == 1.0  # from unseen ones: less sure than the retain set
        task = self.asked(torch.full((20,), -5.0), forget=torch.full((20,), -5.0))
        assert Unseen(task).distance(task.model).like


def test_what_is_kept_is_asked_of_a_part_of_it():
    task = asked(torch.linspace(0, 1, 8), torch.linspace(0, 1, 8), retain=3000)
    found = Unseen(task).retained(task.model)
    assert found == pytest.approx(1 / 3, abs=0.02)  # of three labels the model always gives one
    whole = asked(torch.linspace(0, 1, 8), torch.linspace(0, 1, 8), retain=9)
    assert Unseen(whole).retained(whole.model) == pytest.approx(1 / 3)


class TestCompany:
    def test_changes_nothing_but_what_batch_norm_sees(self):
        data = tiny.blobs(24)
        first, company = data[list(range(0, 24, 3))], data[list(range(24))]
        generator = torch.Generator()
        plain, accompanied = cross_entropy, Accompanied(truth)
        for model, same in ((tiny.mlp(), True), (tiny.conv_net(), False)):
            model[3 if len(model) == 6 else 0].train(False)  # no dropout
            alone = plain(model, first, generator)
            together = accompanied(model, (first, company), generator)
            assert torch.isclose(alone, together, rtol=1e-5).item() == same
        model.eval()
        torch.testing.assert_close(plain(model, first, generator), accompanied(model, (first, company), generator))
