import pytest
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.tasks import Mean, Mixed, Seen, blend, cross_entropy, labelled_as, truth, uniform, weighted

CLASSES = 4


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def seen(device, count=7, seed=0):
    draw = random(seed)
    logits = torch.randn(count, CLASSES, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (count,), generator=draw)
    return Seen(torch.arange(float(count))[:, None].to(device), labels.to(device), logits.to(device))


class Table(nn.Module):
    """Answers example number i with row i, and counts how often it was asked."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.calls = nn.Parameter(rows), []

    def forward(self, numbers):
        self.calls.append(len(numbers))
        return self.rows[numbers[:, 0].long()]


def test_only_some_of_a_batch(device):
    batch = seen(device)
    where = torch.tensor([True, False, True, False, False, True, False], device=device)
    some = batch.only(where)
    assert some.inputs[:, 0].tolist() == [0, 2, 5]
    assert some.labels.equal(batch.labels[where]) and some.logits.equal(batch.logits[where])


def test_truth_is_the_cross_entropy_of_each_example(device):
    batch = seen(device)
    found = truth(batch, random())
    expected = -batch.logits.softmax(1).log()[torch.arange(7), batch.labels]
    torch.testing.assert_close(found, expected)


class TestMean:
    def test_is_the_mean_over_the_batch_of_one_forward_pass(self, device):
        batch = seen(device)
        model = Table(batch.logits.clone()).to(device)
        found = cross_entropy(model, (batch.inputs, batch.labels), random())
        torch.testing.assert_close(found, F.cross_entropy(batch.logits, batch.labels))
        assert model.calls == [7]

    def test_takes_mappings_and_hands_its_generator_on(self, device):
        batch = seen(device)
        draws = []

        def objective(given, generator):
            draws.append(torch.rand(1, generator=generator).item())
            return given.logits.sum(1)

        model = Table(batch.logits.clone()).to(device)
        found = Mean(objective)(model, {"image": batch.inputs.cpu(), "label": batch.labels.cpu()}, random(4))
        torch.testing.assert_close(found, batch.logits.sum(1).mean())
        assert draws == [torch.rand(1, generator=random(4)).item()]


class TestMixed:
    @pytest.mark.parametrize("origin", [[0, 1, 1, 0, 0, 1, 0], [1] * 7, [0] * 7])
    def test_is_the_mean_over_all_examples_of_what_is_wanted_of_each(self, device, origin):
        batch, origin = seen(device), torch.tensor(origin)
        model = Table(batch.logits.clone()).to(device)
        loss = Mixed((labelled_as(2), truth))
        found = loss(model, [[batch.inputs, batch.labels], origin], random())
        targets = torch.where(origin.to(device) == 0, 2, batch.labels)
        torch.testing.assert_close(found, F.cross_entropy(batch.logits, targets))
        assert model.calls == [7]  # one forward pass, so that batch norm sees the mixture

    def test_gives_each_example_the_gradient_of_its_own_objective(self, device):
        batch, origin = seen(device), torch.tensor([0, 1, 2, 0, 1, 2, 0])
        model = Table(batch.logits.clone()).to(device)
        scales = [1.0, -3.0, 10.0]

        def times(scale):
            return lambda given, generator: scale * given.logits.sum(1)

        Mixed([times(s) for s in scales])(model, ((batch.inputs, batch.labels), origin), random()).backward()
        expected = torch.tensor(scales, dtype=torch.float64, device=device)[origin] / 7
        torch.testing.assert_close(model.rows.grad, expected[:, None].expand(-1, CLASSES))


class TestWeighted:
    CLASSES = torch.tensor([1.0, 0.05, 3.0, 0.4])

    def test_its_mean_is_torchs_weighted_cross_entropy(self, device):
        batch = seen(device)
        found = weighted(self.CLASSES)(batch, random())
        expected = F.cross_entropy(batch.logits, batch.labels, self.CLASSES.double().to(device))
        torch.testing.assert_close(found.mean(), expected)

    def test_two_examples_pull_by_the_weights_of_their_classes(self, device):
        """Acceptance test 11: weighting the averaged loss would not do that."""
        rows = torch.zeros(2, CLASSES, dtype=torch.float64, device=device, requires_grad=True)
        batch = Seen(torch.zeros(2, 1, device=device), torch.tensor([0, 1], device=device), rows)
        weighted(self.CLASSES)(batch, random()).mean().backward()
        assert (rows.grad[0].norm() / rows.grad[1].norm()).item() == pytest.approx(20)

    def test_equal_weights_are_none(self, device):
        batch = seen(device)
        found = weighted(torch.full((CLASSES,), 0.3))(batch, random())
        torch.testing.assert_close(found, truth(batch, random()))

    def test_classes_that_do_not_count(self, device):
        batch = seen(device)
        assert (weighted(torch.zeros(CLASSES))(batch, random()) == 0).all()


class TestBlend:
    def test_is_the_weighted_sum(self, device):
        batch = seen(device)
        found = blend((0.3, truth), (-2.0, uniform))(batch, random())
        torch.testing.assert_close(found, 0.3 * truth(batch, random()) - 2 * uniform(batch, random()))

    def test_of_a_single_one(self, device):
        batch = seen(device)
        torch.testing.assert_close(blend((-1.0, truth))(batch, random()), -truth(batch, random()))

    def test_its_parts_draw_one_after_the_other(self, device):
        def draw(given, generator):
            return torch.rand(len(given.labels), generator=generator)

        batch, draws = seen(device), random(3)
        expected = torch.rand(7, generator=draws) + 10 * torch.rand(7, generator=draws)
        torch.testing.assert_close(blend((1.0, draw), (10.0, draw))(batch, random(3)), expected)
