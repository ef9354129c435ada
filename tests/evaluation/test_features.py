import math

import mpmath
import numpy as np
import pytest
import torch

from amnesty.errors import DataError, InvalidInputError, ShapeError
from amnesty.evaluation import features as module
from amnesty.evaluation.features import (
    FEATURES,
    confidence,
    correctness,
    cross_entropy,
    entropy,
    features,
    margins,
    modified_entropy,
)

WITH_LABELS = [margins, confidence, cross_entropy, modified_entropy, correctness, features]


def answers(n=300, classes=7, scale=4.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, classes, generator=draw), torch.randint(classes, (n,), generator=draw)


def exactly(logits, label):
    """Return p_y, loss, entropy and modified entropy of one example, in 400 digits."""
    with mpmath.workdps(400):
        e = [mpmath.exp(mpmath.mpf(float(z))) for z in logits]
        p = [x / mpmath.fsum(e) for x in e]
        rest = [mpmath.fsum(e[:j] + e[j + 1 :]) / mpmath.fsum(e) for j in range(len(e))]
        wrong = mpmath.fsum(p[j] * mpmath.log(rest[j]) for j in range(len(e)) if j != label)
        plain = -mpmath.fsum(x * mpmath.log(x) for x in p)
        own = -rest[label] * mpmath.log(p[label])
        return [float(x) for x in (p[label], -mpmath.log(p[label]), plain, own - wrong)]


class TestValues:
    @pytest.mark.parametrize("scale", [0.01, 1, 10, 60])
    def test_agree_with_exact_arithmetic(self, scale):
        logits, labels = answers(40, 4, scale)
        truth = np.array([exactly(z, int(y)) for z, y in zip(logits, labels, strict=True)]).T
        found = [confidence(logits, labels), cross_entropy(logits, labels), entropy(logits)]
        np.testing.assert_allclose([*found, modified_entropy(logits, labels)], truth, rtol=1e-11)

    @pytest.mark.parametrize("offset", [0.0, 1000.0, -4000.0])
    def test_of_saturated_logits(self, offset):
        logits, labels = torch.tensor([[0.0, 500.0, 100.0], [0.0, 500.0, 100.0]]) + offset, torch.tensor([1, 0])
        tail = 400 * math.exp(-400)
        np.testing.assert_allclose(modified_entropy(logits, labels), [math.exp(-800), 900], rtol=1e-11)
        np.testing.assert_allclose(entropy(logits), [401 * math.exp(-400)] * 2, rtol=1e-11)
        np.testing.assert_allclose(cross_entropy(logits, labels), [tail / 400, 500], rtol=1e-11)

    def test_modified_entropy_is_the_plain_loop(self):
        logits, labels = answers()
        p = logits.double().softmax(dim=1)
        for row, y, found in zip(p, labels, modified_entropy(logits, labels), strict=True):
            terms = [-(1 - q) * q.log() if j == y else -q * (1 - q).log() for j, q in enumerate(row)]
            assert found == pytest.approx(float(sum(terms)), rel=1e-9)

    def test_modified_entropy_reads_the_label(self):
        """The formula of the published code does not: it gives the same whatever the label."""
        logits, labels = answers(scale=1.0)
        assert np.abs(modified_entropy(logits, labels) - modified_entropy(logits, (labels + 1) % 7)).min() > 1e-6

    def test_are_finite_at_the_ends_of_float32(self):
        logits = torch.tensor([[3e38, -3e38, 0.0]]).repeat(3, 1)
        for value in features(logits, torch.arange(3)).values():
            assert np.isfinite(value).all()

    def test_correctness_is_the_accuracy(self):
        logits, labels = answers()
        assert correctness(logits, labels).mean() == (logits.argmax(1) == labels).double().mean().item()


class TestFeatures:
    def test_are_turned_towards_membership(self):
        logits, labels = answers()
        found = features(logits, labels)
        assert tuple(found) == FEATURES
        np.testing.assert_array_equal(found["margin"], margins(logits, labels))
        np.testing.assert_array_equal(found["confidence"], -cross_entropy(logits, labels))
        np.testing.assert_array_equal(found["entropy"], -entropy(logits))
        np.testing.assert_array_equal(found["modified_entropy"], -modified_entropy(logits, labels))
        np.testing.assert_array_equal(found["correctness"], correctness(logits, labels))
        assert all(value.dtype == np.float64 and value.shape == (300,) for value in found.values())

    def test_grow_with_the_logit_of_the_label(self):
        labels = torch.zeros(50, dtype=torch.int64)
        for name, value in features(
            torch.cat([torch.linspace(1, 300, 50)[:, None], torch.zeros(50, 3)], 1), labels
        ).items():
            assert (np.diff(value) > 0).all() or (name == "correctness" and (value == 1).all())

    def test_do_not_depend_on_chunks(self, monkeypatch):
        logits, labels = answers()
        whole = features(logits, labels)
        monkeypatch.setattr(module, "CHUNK", 50)
        for name, value in features(logits, labels).items():
            np.testing.assert_allclose(value, whole[name], rtol=1e-13)

    def test_follow_the_examples(self):
        logits, labels = answers()
        order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
        for name, value in features(logits[order], labels[order]).items():
            np.testing.assert_allclose(value, features(logits, labels)[name][order.numpy()], rtol=1e-13)

    def test_leave_their_input_alone(self):
        logits, labels = answers()
        before = logits.clone()
        features(logits.requires_grad_(), labels)
        assert torch.equal(logits, before)

    def test_of_no_example_are_empty(self):
        assert all(v.shape == (0,) for v in features(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).values())


@pytest.mark.parametrize("measure", WITH_LABELS)
class TestBadInput:
    @pytest.mark.parametrize("shapes", [((5,), (5,)), ((5, 1), (5,)), ((5, 3), (4,)), ((5, 3), (5, 1))])
    def test_other_shapes_are_refused(self, measure, shapes):
        with pytest.raises(ShapeError, match="at least two classes"):
            measure(torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.int64))

    @pytest.mark.parametrize("label", [-1, 3])
    def test_labels_out_of_range_are_refused(self, measure, label):
        with pytest.raises(DataError, match="between 0 and 2"):
            measure(torch.zeros(2, 3), torch.tensor([0, label]))

    def test_labels_that_are_no_numbers_of_classes_are_refused(self, measure):
        with pytest.raises(DataError, match="whole numbers"):
            measure(torch.zeros(2, 3), torch.zeros(2))

    @pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
    def test_logits_that_are_not_finite_are_refused(self, measure, odd):
        with pytest.raises(InvalidInputError, match="finite"):
            measure(torch.tensor([[0.0, odd]]), torch.tensor([0]))
