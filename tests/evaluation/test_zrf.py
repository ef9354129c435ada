import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from amnesty.errors import InvalidInputError, ModelError, ShapeError
from amnesty.evaluation.distance import js_divergence
from amnesty.evaluation.zrf import random_teachers, zero_retrain_forgetting, zrf_compat
from tests import tiny


def answers(seed=0, n=40, classes=4, scale=1.0):
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


class TestZeroRetrainForgetting:
    def test_is_one_minus_the_mean_divergence(self):
        logits, teachers = answers(0), [answers(s) for s in range(1, 6)]
        expected = 1 - np.mean([js_divergence(logits, t) for t in teachers])
        assert zero_retrain_forgetting(logits, teachers) == pytest.approx(expected)
        assert zero_retrain_forgetting(logits, [logits] * 5) == 1

    def test_does_not_depend_on_the_number_of_classes_as_published_code_does(self):
        """The same behaviour: sure of one class, against a teacher that guesses among two."""
        found, published = [], []
        for classes in (10, 100):
            logits = torch.full((6, classes), -1e4)
            teacher = logits.clone()
            logits[:, 0] = teacher[:, 0] = teacher[:, 1] = 0.0
            found.append(zero_retrain_forgetting(logits, [teacher] * 5))
            published.append(zrf_compat(logits.clamp(min=-30), teacher.clamp(min=-30)))
        assert found[0] == pytest.approx(found[1]) == pytest.approx(0.6887, abs=1e-4)
        assert 1 - published[0] == pytest.approx(10 * (1 - published[1]), rel=1e-6)

    def test_one_teacher_is_too_few(self):
        with pytest.raises(InvalidInputError, match="at least 5"):
            zero_retrain_forgetting(answers(0), [answers(1)])

    def test_teachers_of_other_classes_are_refused(self):
        with pytest.raises(ShapeError, match="same classes"):
            zero_retrain_forgetting(answers(0), [answers(1, classes=3)] * 5)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_compat_is_torchs_mean_of_reversed_divergences(classes):
    p, q = (answers(s, classes=classes).double().softmax(dim=1) for s in (0, 1))
    m = (p + q) / 2
    published = (
        1 - (0.5 * F.kl_div(p.log(), m, reduction="none") + 0.5 * F.kl_div(q.log(), m, reduction="none")).mean()
    )
    assert zrf_compat(answers(0, classes=classes), answers(1, classes=classes)) == pytest.approx(float(published))


class TestRandomTeachers:
    def test_are_new_and_differ_and_follow_the_seed(self):
        model = tiny.conv_net()
        model[1].running_mean.add_(3)
        before = tiny.weights(model)
        teachers, again, more, others = (
            random_teachers(model, seed=0),
            random_teachers(model, seed=0),
            random_teachers(model, count=6, seed=0),
            random_teachers(model, seed=1),
        )
        assert len(teachers) == 5
        states = [tiny.weights(t) for t in teachers]
        assert all(tiny.same(s, tiny.weights(t)) for s, t in zip(states, again, strict=True))
        assert all(tiny.same(s, tiny.weights(t)) for s, t in zip(states, more, strict=False))
        firsts = [s["0.weight"] for s in (*states, tiny.weights(others[0]), before)]
        assert not any(torch.equal(a, b) for i, a in enumerate(firsts) for b in firsts[:i])
        assert all((s["1.running_mean"] == 0).all() for s in states)
        assert tiny.same(before, tiny.weights(model))
        assert not any(module.training for t in teachers for module in t.modules())

    def test_keep_the_callers_generator(self):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        random_teachers(tiny.mlp(), count=1, seed=0)
        assert torch.equal(before, torch.get_rng_state())

    def test_a_module_that_cannot_start_again_is_refused_by_name(self):
        with pytest.raises(ModelError, match="Cannot initialise Attention.*`fresh=`"):
            random_teachers(tiny.attention(), seed=0)

    def test_fresh_makes_them_from_the_seed(self):
        def fresh():
            return nn.Linear(3, 2)

        one, same, other = (random_teachers(fresh(), count=1, seed=s, fresh=fresh)[0].weight for s in (0, 0, 1))
        assert torch.equal(one, same) and not torch.equal(one, other)

    def test_none_is_refused(self):
        with pytest.raises(InvalidInputError, match="`count` must be at least 1"):
            random_teachers(tiny.mlp(), count=0, seed=0)

    def test_their_own_zrf_is_below_one(self):
        data, model = tiny.blobs(30), tiny.mlp()
        said = [t(data.images).detach() for t in random_teachers(model, seed=0)]
        assert 0.5 < zero_retrain_forgetting(model(data.images), said) < 1
        assert math.isfinite(zrf_compat(model(data.images), said[0]))
