"""Each protocol beside a slow transcription of what the published code computes."""

import inspect

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.svm import SVC

from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.evaluation import compat
from amnesty.evaluation.compat import (
    PROTOCOLS,
    SVC_FEATURES,
    indiscernibility,
    logistic_entropy_ssd_compat,
    logistic_loss_compat,
    logistic_loss_scrub_compat,
    svc_compat,
    svc_privacy_compat,
)
from amnesty.tasks import Predictions


def answers(mean, n, seed, classes=5, labelled=None):
    """Answers surer than random ones by ``mean``, spread as those of trained models are."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes if labelled is None else labelled, (n,), generator=draw)
    logits = torch.randn(n, classes, generator=draw)
    logits[torch.arange(n), labels] += mean + 2 * torch.randn(n, generator=draw)
    return Predictions(logits, labels)


def first(part, n, start=0):
    return Predictions(part.logits[start : start + n], part.labels[start : start + n])


def published_feature(part, feature):
    p, labels = part.logits.softmax(1), part.labels
    if feature == "correctness":
        return (p.argmax(1) == labels).int()
    if feature == "confidence":
        return p.gather(1, labels[:, None])
    if feature == "entropy":
        return -torch.where(p > 0, p * p.log(), p.new([0.0])).sum(-1)
    if feature == "prob":
        return p
    log_p = torch.where(p > 0, p.log(), torch.tensor(1e-30).log())
    probabilities, logs = p.clone(), log_p.clone()
    probabilities[:, labels] = (1 - p)[:, labels]  # [n, n], as published
    logs[:, labels] = log_p[:, labels]
    return -(probabilities * logs).sum(-1)


def published_machine(members, nonmembers, *targets):
    rows = torch.cat([members, nonmembers]).numpy().reshape(len(members) + len(nonmembers), -1)
    truth = np.concatenate([np.ones(len(members)), np.zeros(len(nonmembers))])
    machine = SVC(C=3, gamma="auto", kernel="rbf").fit(rows, truth)
    return [machine.predict(t.numpy().reshape(len(t), -1)) for t in targets]


class TestSvc:
    @pytest.mark.parametrize("feature", SVC_FEATURES)
    @pytest.mark.parametrize("exact", [True, False])
    def test_agrees_with_the_published_code(self, feature, exact):
        retain, test, forget = answers(4, 900, 0), answers(3, 500, 1), answers(3.5, 400, 2, labelled=2)
        parts = [published_feature(p, feature) for p in (first(retain, 500), test, forget)]
        (called,) = published_machine(*parts)
        assert svc_compat(retain, test, forget, feature, exact=exact) == pytest.approx(1 - called.mean(), abs=1e-12)

    @pytest.mark.parametrize("feature", SVC_FEATURES)
    @pytest.mark.parametrize("exact", [True, False])
    def test_privacy_agrees_with_the_published_code(self, feature, exact):
        retain, test = answers(4, 700, 0), answers(3, 401, 1)
        cut = [first(retain, 200), first(test, 200), first(retain, 500, 200), first(test, 201, 200)]
        ours, theirs = published_machine(*[published_feature(p, feature) for p in cut])
        found = svc_privacy_compat(retain, test, feature, exact=exact)
        assert found == pytest.approx((ours.mean() + 1 - theirs.mean()) / 2, abs=1e-12)

    @pytest.mark.parametrize("feature", ["confidence", "entropy"])
    @pytest.mark.parametrize("mean", [3, 8])
    def test_the_fast_path_predicts_the_same(self, feature, mean):
        """Each of 2,000 targets, of an unsure and of a trained model, but for those that the exact one is unsure of.

        Its solver stops at a tolerance of 1e-3 for single examples; a grid a hundred times finer disagrees as well.
        """
        parts = [
            answers(mean + more, n, 20 + i, classes=10) for i, (more, n) in enumerate([(3, 999), (0, 999), (1, 2000)])
        ]
        rows = [compat._svc_feature(part, feature) for part in parts]
        members, nonmembers, targets = rows
        (fast,) = compat._svc_calls(members, nonmembers, [targets], feature, exact=False)
        slow = (
            compat._svc()
            .fit(np.concatenate([members, nonmembers]), np.repeat([1, 0], 999))
            .decision_function(targets)
        )
        same = fast == (slow > 0)
        assert np.abs(slow[~same]).max(initial=0) < 0.01
        assert same.mean() >= 0.998 and 0.02 < fast.mean() < 0.98

    @pytest.mark.parametrize("retained", [1.0, 3.0, 5.0])
    def test_correctness_tells_the_accuracy_again(self, retained):
        retain, test, forget = answers(retained, 300, 0), answers(3, 300, 1), answers(2, 200, 2)
        accuracy = (forget.logits.argmax(1) == forget.labels).double().mean().item()
        expected = 1 - accuracy if retained == 5 else accuracy
        found = [svc_compat(retain, test, forget, "correctness", exact=exact) for exact in (True, False)]
        assert found[0] == found[1]
        assert retained == 3 or found[0] == pytest.approx(expected)

    def test_correctness_of_equal_accuracies_is_what_the_machine_says(self):
        part = answers(2, 60, 0)
        (called,) = published_machine(*3 * [published_feature(part, "correctness")])
        assert svc_compat(part, part, part, "correctness") == 1 - called.mean()

    def test_the_broken_entropy_ignores_labels_and_is_undefined_by_the_set(self):
        part = answers(2, 60, 0)
        turned = Predictions(part.logits, part.labels.roll(1))
        alone = Predictions(part.logits, torch.zeros_like(part.labels))
        found = [compat._svc_feature(p, "m_entropy") for p in (part, turned, alone)]
        np.testing.assert_array_equal(found[0], found[1])
        assert np.abs(found[0] - found[2]).mean() > 1

    def test_only_the_first_retained_examples_count(self):
        retain, test, forget = answers(4, 300, 0), answers(3, 200, 1), answers(3, 100, 2)
        assert svc_compat(retain, test, forget) == svc_compat(first(retain, 200), test, forget)
        assert svc_compat(retain, test, forget) != svc_compat(first(retain, 200, 100), test, forget)

    def test_too_few_retained_examples_are_refused(self):
        with pytest.raises(InvalidInputError, match="as many retained as test examples"):
            svc_compat(answers(4, 99, 0), answers(3, 100, 1), answers(3, 10, 2))
        with pytest.raises(InvalidInputError, match="as many retained as test examples"):
            svc_privacy_compat(answers(4, 50, 0), answers(3, 100, 1))

    def test_an_unknown_feature_is_named(self):
        with pytest.raises(UnknownNameError, match="'confidence'"):
            svc_compat(answers(4, 9, 0), answers(3, 9, 1), answers(3, 9, 2), "confidense")


def published_accuracy(losses, members, splits, seed):
    cv = StratifiedShuffleSplit(n_splits=splits, random_state=seed)
    return cross_val_score(LogisticRegression(), losses[:, None], members, cv=cv, scoring="accuracy").mean()


def losses_of(part):
    return torch.nn.functional.cross_entropy(part.logits, part.labels, reduction="none").numpy()


VARIANTS = ["starting_kit", "munba", "deepunlearn"]


class TestLogisticLoss:
    @pytest.mark.parametrize(
        ("variant", "label", "seed"), [("starting_kit", 0, 0), ("munba", 1, 0), ("deepunlearn", 0, 123)]
    )
    def test_agrees_with_the_published_code_where_nothing_is_drawn(self, variant, label, seed, monkeypatch):
        """As many on both sides, and every shuffle the identity."""
        forget, unseen = answers(4, 80, 0), answers(3, 80, 1)

        class Still:
            permutation = staticmethod(lambda x: x)

        monkeypatch.setattr(compat.np.random, "default_rng", lambda seed: Still)
        ours, theirs = losses_of(forget), losses_of(unseen)
        order = [theirs, ours] if variant == "starting_kit" else [ours, theirs]
        members = np.repeat([label, 1 - label], 80)
        expected = published_accuracy(np.concatenate(order), members, 10, seed)
        assert logistic_loss_compat(forget, unseen, variant=variant, seed=5) == expected

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_is_half_for_equal_laws_and_one_for_far_ones(self, variant):
        near = logistic_loss_compat(answers(3, 3000, 0), answers(3, 2000, 1), variant=variant, seed=0)
        far = logistic_loss_compat(answers(30, 300, 0), answers(-30, 200, 1), variant=variant, seed=0)
        assert near == pytest.approx(0.5, abs=0.03) and far == 1

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_has_no_sign(self, variant):
        over = logistic_loss_compat(answers(-5, 300, 0), answers(3, 300, 1), variant=variant, seed=0)
        assert over > 0.9

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_follows_its_seed_alone(self, variant):
        parts = answers(4, 90, 0), answers(3, 60, 1)
        before = np.random.get_state()[1].tolist()
        one, same, other = (logistic_loss_compat(*parts, variant=variant, seed=s) for s in (0, 0, 1))
        assert one == same != other
        assert np.random.get_state()[1].tolist() == before

    def test_only_the_starting_kit_leaves_the_sides_unbalanced(self):
        parts = answers(3, 40, 0), answers(3, 400, 1)
        unbalanced = logistic_loss_compat(*parts, variant="starting_kit", seed=0)
        assert unbalanced == pytest.approx(10 / 11, abs=0.02) and logistic_loss_compat(*parts, seed=0) < 0.75

    def test_odd_input_is_refused(self):
        with pytest.raises(UnknownNameError, match="munba"):
            logistic_loss_compat(answers(3, 40, 0), answers(3, 40, 1), variant="munda", seed=0)
        for call in (logistic_loss_compat, logistic_loss_scrub_compat):
            with pytest.raises(InvalidInputError, match="at least five"):
                call(answers(3, 4, 0), answers(3, 40, 1), seed=0)

    @pytest.mark.parametrize("variant", [*VARIANTS, "scrub"])
    def test_as_few_as_it_says(self, variant):
        """Ten in all would leave one to hold out; eleven leave two, one of each side."""
        options = {} if variant == "scrub" else {"variant": variant}
        call = logistic_loss_scrub_compat if variant == "scrub" else logistic_loss_compat
        sides = [answers(3, n, n, labelled=1) for n in (5, 6, 6)]
        assert 0 <= call(sides[1], sides[2], seed=0, **options) <= 1
        with pytest.raises(InvalidInputError, match=r"eleven in all.*\[5, 5\]"):
            call(sides[0], answers(3, 5, 1, labelled=1), seed=0, **options)

    def test_the_starting_kit_takes_eleven(self):
        assert 0 <= logistic_loss_compat(answers(3, 5, 0), answers(3, 6, 1), variant="starting_kit", seed=0) <= 1

    @pytest.mark.parametrize("unseen", range(6, 200, 7))
    def test_the_starting_kit_takes_unlike_sides(self, unseen):
        parts = answers(3, 5, 0), answers(3, unseen, 1)
        assert 0 <= logistic_loss_compat(*parts, variant="starting_kit", seed=0) <= 1


class TestScrub:
    def test_agrees_with_the_published_code_where_nothing_is_drawn(self):
        forget, test = answers(4, 80, 0, labelled=2), answers(3, 300, 1)
        of_classes = test.labels < 2
        test = Predictions(
            torch.cat([test.logits[of_classes][:80], test.logits[~of_classes]]),
            torch.cat([test.labels[of_classes][:80], test.labels[~of_classes]]),
        )
        forget.logits[0] *= 1e4  # a loss beyond 100, or of 0
        both = np.concatenate([losses_of(first(test, 80)), losses_of(forget)]).clip(-100, 100)
        expected = published_accuracy(both, np.repeat([0, 1], 80), 5, 7)
        assert logistic_loss_scrub_compat(forget, test, seed=7) == expected

    def test_unlike_classes_are_dropped(self):
        """Classes 2 to 4 are wrong throughout; the attack of the others is a guess."""
        forget, test = answers(3, 400, 0, labelled=2), answers(3, 1500, 1)
        test.logits[test.labels > 1] *= -9
        assert logistic_loss_scrub_compat(forget, test, seed=0) == pytest.approx(0.5, abs=0.07)

    def test_a_forget_set_of_classes_without_test_examples_is_refused(self):
        with pytest.raises(InvalidInputError, match="empty part"):
            logistic_loss_scrub_compat(answers(3, 40, 0), Predictions(torch.zeros(9, 7), torch.full((9,), 6)), seed=0)


class TestSsd:
    def test_is_a_multinomial_regression(self):
        """Two weight vectors under one penalty, fitted by hand."""
        retain, test, forget = answers(4, 60, 0), answers(1, 30, 1), answers(2, 200, 2)
        x, y, targets = (published_feature(p, "entropy").double().numpy() for p in (retain, test, forget))
        rows = np.concatenate([x, y])
        weights = np.repeat([90 / 2 / 60, 90 / 2 / 30], [60, 30])

        def loss(w):
            scores = np.outer(rows, w[:2]) + w[2:]
            log_p = scores - np.logaddexp(scores[:, :1], scores[:, 1:])
            return -(weights * np.append(log_p[:60, 1], log_p[60:, 0])).sum() + 0.5 * (w[:2] ** 2).sum()

        w = minimize(loss, np.zeros(4), tol=1e-12).x
        called = targets * (w[1] - w[0]) + w[3] - w[2] > 0
        assert 0.05 < called.mean() < 0.95
        assert logistic_entropy_ssd_compat(retain, test, forget) == called.mean()

    def test_a_sure_and_wrong_answer_counts_as_memory(self):
        retain, test = answers(9, 300, 0), answers(0, 300, 1)
        wrong = Predictions(answers(9, 100, 2).logits, torch.zeros(100, dtype=torch.int64))
        assert logistic_entropy_ssd_compat(retain, test, wrong) > 0.8

    def test_an_empty_part_is_refused(self):
        with pytest.raises(InvalidInputError, match="empty part"):
            logistic_entropy_ssd_compat(answers(1, 9, 0), answers(1, 9, 1), answers(1, 0, 2))


class TestTable:
    def test_every_protocol_is_a_function_and_said_in_a_sentence(self):
        functions = {name for name, f in inspect.getmembers(compat, inspect.isfunction) if name.endswith("_compat")}
        assert functions == set(PROTOCOLS)
        assert all(text.endswith(".") for text in PROTOCOLS.values())

    def test_indiscernibility(self):
        assert [indiscernibility(a) for a in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 0]
        for odd in (-0.1, 50):
            with pytest.raises(InvalidInputError, match="percent"):
                indiscernibility(odd)
