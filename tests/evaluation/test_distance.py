import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from torch import nn

from amnesty.errors import InvalidInputError, ModelError, ShapeError
from amnesty.evaluation.distance import (
    activation_distance,
    agreement,
    js_divergence,
    normalised_entropy,
    overlap_of_correct,
    weight_distance,
)
from tests import tiny


def answers(seed=0, n=50, classes=4, scale=3.0):
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def probabilities(logits):
    return logits.double().softmax(dim=1).numpy()


PAIRWISE = [js_divergence, activation_distance, agreement]


class TestJsDivergence:
    @pytest.mark.parametrize("scale", [1e-2, 1.0, 20.0])
    def test_agrees_with_scipy(self, scale):
        first, second = answers(0, scale=scale), answers(1, scale=scale)
        expected = jensenshannon(probabilities(first), probabilities(second), base=2, axis=1) ** 2
        np.testing.assert_allclose(js_divergence(first, second), expected, atol=1e-12)

    def test_is_symmetric_and_zero_for_the_same(self):
        first, second = answers(0), answers(1)
        assert (js_divergence(first, second) == js_divergence(second, first)).all()
        assert js_divergence(first, first).max() < 1e-15

    def test_an_offset_of_the_logits_changes_nothing(self):
        first, second = answers(0).double(), answers(1).double()
        np.testing.assert_allclose(js_divergence(first + 7, second - 3), js_divergence(first, second), atol=1e-13)

    @pytest.mark.parametrize("size", [1e2, 1e4, 1e30, 1e308])
    def test_is_one_for_saturated_opposites(self, size):
        first = torch.tensor([[size, -size, 0.0]], dtype=torch.float64)
        assert js_divergence(first, first.flip(1)).tolist() == pytest.approx([1.0])
        assert js_divergence(first, first).tolist() == [0.0]

    def test_one_certain_and_one_guessing(self):
        found = js_divergence(torch.tensor([[1e4, 0.0]]), torch.zeros(1, 2))
        expected = 0.5 * math.log2(1 / 0.75) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
        assert found[0] == pytest.approx(expected)


class TestActivationDistance:
    @pytest.mark.parametrize("norm", [1, 2])
    def test_is_the_norm_of_the_difference(self, norm):
        first, second = answers(0), answers(1)
        expected = [
            np.linalg.norm(p - q, ord=norm) for p, q in zip(probabilities(first), probabilities(second), strict=True)
        ]
        np.testing.assert_allclose(activation_distance(first, second, norm=norm), expected, atol=1e-12)

    def test_reaches_its_bounds(self):
        first, second = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
        assert activation_distance(first, second)[0] == pytest.approx(math.sqrt(2))
        assert activation_distance(first, second, norm=1)[0] == pytest.approx(2)

    def test_refuses_other_norms(self):
        with pytest.raises(InvalidInputError, match="`norm` must be 1 or 2"):
            activation_distance(answers(0), answers(1), norm=3)


class TestLabels:
    def test_agreement_is_of_predictions(self):
        first, second = answers(0), answers(1)
        found = agreement(first, second)
        assert found.dtype == bool
        assert found.tolist() == [int(a.argmax()) == int(b.argmax()) for a, b in zip(first, second, strict=True)]
        assert agreement(first, 10 * first + 3).all()

    def test_overlap_is_the_jaccard_index_of_the_correct_sets(self):
        first, second, labels = answers(0), answers(1), torch.arange(50) % 4
        sets = [{i for i in range(50) if int(x[i].argmax()) == int(labels[i])} for x in (first, second)]
        assert overlap_of_correct(first, second, labels) == len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        assert overlap_of_correct(first, first, labels) == 1

    def test_overlap_of_nothing_is_refused(self):
        first = torch.tensor([[1.0, 0.0]] * 3)
        with pytest.raises(InvalidInputError, match="Neither model gets an example right"):
            overlap_of_correct(first, first, torch.ones(3, dtype=torch.int64))

    @pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.int64), torch.zeros(50), torch.full((50,), 9)])
    def test_overlap_refuses_other_labels(self, labels):
        with pytest.raises(InvalidInputError, match="`labels` must be"):
            overlap_of_correct(answers(0), answers(1), labels)


def test_normalised_entropy_agrees_with_scipy():
    logits = answers(0)
    expected = entropy(probabilities(logits), axis=1) / math.log(4)
    np.testing.assert_allclose(normalised_entropy(logits), expected, atol=1e-12)
    assert normalised_entropy(torch.zeros(2, 5)).tolist() == pytest.approx([1, 1])
    assert normalised_entropy(torch.tensor([[1e308, -1e308]], dtype=torch.float64)).tolist() == [0]


@pytest.mark.parametrize("measure", PAIRWISE)
class TestBadAnswers:
    def test_other_lengths_or_classes_are_refused(self, measure):
        for other in (answers(1, n=49), answers(1, classes=5)):
            with pytest.raises(ShapeError, match="same examples with the same classes"):
                measure(answers(0), other)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_numbers_that_are_not_finite_are_refused(self, measure, bad):
        spoilt = answers(1)
        spoilt[3, 1] = bad
        with pytest.raises(InvalidInputError, match="The second logits hold NaN or infinite"):
            measure(answers(0), spoilt)

    def test_what_is_no_table_of_logits_is_refused(self, measure):
        for bad in (torch.zeros(3), torch.zeros(3, 1), torch.zeros(3, 2, dtype=torch.int64)):
            with pytest.raises(ShapeError, match=r"shape \[n, C\]"):
                measure(bad, bad)
        with pytest.raises(InvalidInputError, match="no example"):
            measure(torch.zeros(0, 3), torch.zeros(0, 3))

    def test_shuffling_examples_shuffles_the_answer(self, measure):
        order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
        first, second = answers(0), answers(1)
        expected = measure(first, second)[order.numpy()]
        np.testing.assert_array_equal(measure(first[order], second[order]), expected)


def flat(model):
    return np.concatenate([p.detach().double().numpy().ravel() for p in model.parameters()])


class TestWeightDistance:
    def test_agrees_with_all_weights_in_one_vector(self):
        models = tiny.conv_net(), tiny.conv_net()
        with torch.no_grad():
            for p in models[1].parameters():
                p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
        models[1][1].running_mean += 100  # a buffer
        found, (a, b) = weight_distance(*models), map(flat, models)
        assert found.absolute == pytest.approx(np.linalg.norm(a - b))
        assert found.relative == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a))
        assert found.normalised == pytest.approx(np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)))

    def test_is_zero_for_the_same_and_symmetric_but_for_relative(self):
        first, second = tiny.mlp(), nn.Sequential(*tiny.mlp())
        assert weight_distance(first, second).absolute == weight_distance(first, second).normalised == 0

    @pytest.mark.parametrize("factor", [1e-3, 2.0, 1e3])
    def test_a_mere_factor_is_no_difference_of_direction(self, factor):
        first, second = tiny.mlp(), tiny.mlp()
        with torch.no_grad():
            for p in second.parameters():
                p.mul_(factor)
        found = weight_distance(first, second)
        assert found.relative == pytest.approx(abs(factor - 1), rel=1e-5)
        assert found.normalised < 1e-6

    def test_opposite_weights_are_two_apart_in_direction(self):
        first, second = tiny.mlp(), tiny.mlp()
        with torch.no_grad():
            for p in second.parameters():
                p.neg_()
        assert weight_distance(first, second).normalised == pytest.approx(2)

    @pytest.mark.parametrize(
        ("first", "second"), [(nn.Linear(2, 3), nn.Linear(3, 3)), (nn.Linear(2, 3), nn.Linear(2, 3, bias=False))]
    )
    def test_other_architectures_are_refused(self, first, second):
        with pytest.raises(ModelError, match="one architecture only"):
            weight_distance(first, second)

    def test_nothing_and_zero_and_nan_are_refused(self):
        with pytest.raises(ModelError, match="no parameters"):
            weight_distance(nn.ReLU(), nn.ReLU())
        for value, error in ((0.0, InvalidInputError), (math.nan, ModelError)):
            bad = nn.Linear(2, 2)
            for p in bad.parameters():
                nn.init.constant_(p, value)
            with pytest.raises(error, match="zero|finite"):
                weight_distance(nn.Linear(2, 2), bad)
