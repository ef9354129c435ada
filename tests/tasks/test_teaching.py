import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError
from amnesty.tasks import Mean, Seen, as_unsure, blend, contrasted, divergence, frozen, imitated
from tests import tiny

TEMPERATURES = [0.5, 1.0, 2.0, 8.0]


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def pair(count=6, classes=4, seed=0):
    draw = random(seed)
    return (3 * torch.randn(2, count, classes, generator=draw)).unbind()


def batch(count=9, seed=0):
    return tiny.blobs(count, seed)[list(range(count))]


class TestFrozen:
    def test_a_copy_that_never_changes(self):
        model = tiny.conv_net().train()
        teacher = frozen(model)
        before = tiny.weights(teacher)
        assert not teacher.training and not teacher[3].training
        assert not any(p.requires_grad for p in teacher.parameters())
        assert model.training and all(p.requires_grad for p in model.parameters())
        with torch.no_grad():
            model[0].weight.add_(1)
            model[1].running_mean.add_(1)
        teacher(batch()[0])
        assert tiny.same(tiny.weights(teacher), before)


class TestDivergence:
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    @pytest.mark.parametrize("squared", [False, True])
    def test_is_the_formula_for_each_example(self, device, temperature, squared):
        student, teacher = (z.to(device) for z in pair())
        p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
        expected = (p * (p / q).log()).sum(1) * (temperature**2 if squared else 1)
        torch.testing.assert_close(
            divergence(student, teacher, temperature, squared=squared), expected, atol=1e-5, rtol=1e-4
        )

    @pytest.mark.parametrize("temperature", TEMPERATURES)
    def test_its_mean_is_batchmean_and_not_a_mean_over_classes(self, temperature):
        student, teacher = pair()
        p, q = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
        expected = F.kl_div(q, p, reduction="batchmean", log_target=True)
        torch.testing.assert_close(divergence(student, teacher, temperature).mean(), expected)

    def test_no_distance_to_oneself(self):
        student, _ = pair()
        student.requires_grad_()
        value = divergence(student, student.detach().clone(), 2.0).sum()
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert torch.autograd.grad(value, student)[0].abs().max() < 1e-6

    @pytest.mark.parametrize("temperature", TEMPERATURES)
    @pytest.mark.parametrize("squared", [False, True])
    def test_its_gradient_by_the_logits(self, temperature, squared):
        student, teacher = pair()
        student.requires_grad_()
        found = torch.autograd.grad(divergence(student, teacher, temperature, squared=squared).sum(), student)[0]
        expected = ((student / temperature).softmax(1) - (teacher / temperature).softmax(1)).detach() / temperature
        torch.testing.assert_close(found, expected * (temperature**2 if squared else 1), atol=1e-5, rtol=1e-4)

    def test_squared_the_gradient_keeps_its_length_as_the_temperature_rises(self):
        student, teacher = pair()
        student.requires_grad_()
        lengths = {
            (t, squared): torch.autograd.grad(divergence(student, teacher, t, squared=squared).sum(), student)[
                0
            ].norm()
            for t in (100.0, 1000.0)
            for squared in (False, True)
        }
        assert (lengths[100.0, True] / lengths[1000.0, True]).item() == pytest.approx(1, rel=0.05)
        assert (lengths[100.0, False] / lengths[1000.0, False]).item() == pytest.approx(100, rel=0.05)

    def test_is_finite_for_answers_without_doubt(self):
        student, teacher = torch.tensor([[300.0, -300.0]]), torch.tensor([[-300.0, 300.0]])
        assert divergence(student, teacher).item() == pytest.approx(600)
        half = divergence(student.bfloat16(), teacher.bfloat16())
        assert half.dtype == torch.float32 and half.isfinite().all()

    @pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
    def test_a_temperature_is_positive(self, temperature):
        student, teacher = pair()
        with pytest.raises(InvalidInputError, match="`temperature` must be positive"):
            divergence(student, teacher, temperature)
        with pytest.raises(InvalidInputError, match="`temperature` must be positive"):
            contrasted(temperature)


@pytest.mark.parametrize("make", [lambda t: imitated(t, 2.0, squared=True), as_unsure])
class TestObjectivesWithATeacher:
    def test_give_the_teacher_no_gradient_and_leave_it_as_it_is(self, make):
        teacher, student = tiny.conv_net().eval(), tiny.conv_net()
        before = tiny.weights(teacher)
        images, labels = batch()
        Mean(make(teacher))(student, (images, labels), random()).backward()
        assert all(p.grad is None for p in teacher.parameters())
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())
        assert tiny.same(tiny.weights(teacher), before)

    def test_are_zero_for_the_teacher_itself(self, make):
        model = tiny.conv_net().eval()
        loss = Mean(make(frozen(model)))(model, batch(), random())
        assert loss.item() == pytest.approx(0, abs=1e-6)


def test_imitated_compares_with_what_the_teacher_says():
    student, teacher = tiny.mlp(), copy.deepcopy(tiny.mlp())
    nn.init.normal_(teacher[3].weight, generator=random())
    images, labels = batch()
    seen = Seen(images, labels, student(images))
    expected = divergence(student(images), teacher(images), 3.0, squared=True)
    torch.testing.assert_close(imitated(teacher, 3.0, squared=True)(seen, random()), expected)
    away = blend((-1.0, imitated(teacher, 3.0, squared=True)))
    torch.testing.assert_close(away(seen, random()), -expected)


def test_as_unsure_is_the_squared_difference_of_entropies():
    student, teacher = tiny.mlp(), tiny.attention().eval()
    images, labels = batch()
    seen = Seen(images, labels, student(images))
    entropies = [torch.distributions.Categorical(logits=m(images)).entropy() for m in (student, teacher)]
    torch.testing.assert_close(as_unsure(teacher)(seen, random()), (entropies[0] - entropies[1]) ** 2)


class TestContrasted:
    @pytest.mark.parametrize("temperature", [0.5, 1.15, 4.0])
    def test_is_the_formula(self, temperature):
        model, forget, retain = tiny.mlp(), batch(4), batch(7, seed=1)
        found = contrasted(temperature)(model, (forget, retain), random())
        similar = (model(forget[0]) @ model(retain[0]).T / temperature).tolist()
        expected = sum(
            -math.log(math.exp(similar[i][j]) / sum(math.exp(x) for x in similar[i]))
            for i in range(4)
            for j in range(7)
        )
        assert found.item() == pytest.approx(expected / 28, rel=1e-5)

    def test_its_minimum_is_the_logarithm_of_the_retain_batch(self):
        class Same(nn.Module):
            def __init__(self):
                super().__init__()
                self.answer = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

            def forward(self, x):
                return self.answer.expand(len(x), -1)

        forget, retain = batch(4), batch(7, seed=1)
        assert contrasted(1.15)(Same(), (forget, retain), random()).item() == pytest.approx(math.log(7), rel=1e-6)
        assert contrasted(1.15)(tiny.mlp(), (forget, retain), random()) > math.log(7)

    def test_only_the_forget_batch_has_a_gradient(self):
        model, forget, retain = tiny.mlp(), batch(4), batch(7, seed=1)
        others = model(retain[0]).detach()
        found = torch.autograd.grad(contrasted(2.0)(model, (forget, retain), random()), list(model.parameters()))
        loss = -(model(forget[0]) @ others.T / 2).log_softmax(1).mean()
        for mine, its in zip(found, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            torch.testing.assert_close(mine, its)
