import dataclasses
import json
from functools import cache

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset

import amnesty
from amnesty.data import Examples
from amnesty.requests.chain import Earlier
from amnesty.requests.links import Link
from amnesty.requests.rechecking import _auc_change, _placements, recheck
from tests import tiny
from tests.requests.audited import RECIPE, examples, forgotten_by, network

COUNT = 400


@cache
def training():
    return examples(COUNT, seed=1)


@cache
def unseen():
    return examples(COUNT, seed=2)


def trained(*parts):
    """A model that knows these ranges of the training data by heart."""
    wide = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))
    data = Subset(training(), [i for part in parts for i in part])
    return amnesty.train(wide, data, dataclasses.replace(RECIPE, epochs=60, batch_size=100))


FIRST, REST = range(200), range(200, COUNT)


@cache
def knows_all():
    return trained(FIRST, REST)


@cache
def never_knew():
    return trained(REST)


def earlier(data=None, indices=FIRST, known=(0.97, 0.95, 0.99), classes=(), name="user-7", **more):
    forgotten = forgotten_by(name, {"forget": Subset(training() if data is None else data, list(indices))})
    values = {} if known is None else dict(zip(("", "_low", "_high"), known, strict=True))
    link = Link(
        name=name,
        audit_sha256="a",
        model_before="b",
        model_after="c",
        forgotten=len(forgotten.hashes),
        forgotten_sha256=forgotten.sha256,
        ended="2026-01-01T00:00:00+00:00",
        forgotten_classes=tuple(classes),
        known={f"membership_auc{end}": value for end, value in values.items()} | more,
    )
    return Earlier((link,), (forgotten,))


def asked(before, after, past=None, **data):
    sources = data or {"training": training()}
    (found,) = recheck(before, after, past or earlier(), sources, unseen(), seed=0)
    return found


def test_what_comes_back_is_found():
    found = asked(never_knew(), knows_all())
    assert found.answer == "came back"
    assert (found.forgotten, found.found) == (200, 200)
    assert found.numbers["membership_auc_before"] < 0.6
    assert found.numbers["membership_auc_after"] > 0.9
    assert found.numbers["change_low"] > 0.3
    assert "200 of 200 examples at hand" in found.reason


def test_what_stays_away_is_not_detected():
    found = asked(never_knew(), never_knew())
    assert found.answer == "not detected" and found.numbers["change"] == 0


def test_what_never_went_is_remembered_and_did_not_come_back():
    assert asked(knows_all(), knows_all()).answer == "remembered"


def test_what_goes_now_is_not_detected():
    found = asked(knows_all(), never_knew())
    assert found.answer == "not detected" and found.numbers["change_high"] < 0


def test_no_test_without_power_clears_anything():
    weak = asked(never_knew(), never_knew(), earlier(known=(0.52, 0.47, 0.57)))
    assert weak.answer == "inconclusive" and "does not detect the original" in weak.reason
    unknown = asked(never_knew(), never_knew(), earlier(known=None))
    assert unknown.answer == "inconclusive" and "not recorded" in unknown.reason
    few = asked(never_knew(), never_knew(), data=Subset(training(), range(5)))
    assert few.answer == "inconclusive" and few.found == 5


def test_what_stands_out_needs_no_record():
    assert asked(never_knew(), knows_all(), earlier(known=None)).answer == "came back"


def test_what_is_treated_worse_than_unseen_is_over_forgotten():
    wrong = Examples(training().images, (training().labels + 1) % 3)
    model = amnesty.train(network(), Subset(wrong, list(FIRST)), RECIPE)
    assert asked(never_knew(), model).answer == "over-forgotten"


def test_what_is_gone_from_the_data_is_not_at_hand():
    found = asked(never_knew(), knows_all(), rest=Subset(training(), list(REST)))
    assert (found.answer, found.found, found.numbers) == ("not at hand", 0, {})


def test_examples_in_several_sets_count_once_each():
    pieces = {"a": Subset(training(), range(120)), "b": Subset(training(), range(80, 160))}
    found = asked(never_knew(), knows_all(), **pieces)
    assert found.found == 160 and "160 of 200" in found.reason


def test_forgotten_examples_do_not_stand_for_unseen_ones():
    past = earlier()
    both = ConcatDataset([unseen(), Subset(training(), list(FIRST))])
    (mixed,) = recheck(never_knew(), knows_all(), past, {"x": training()}, both)
    assert mixed.numbers["membership_auc_after"] == asked(never_knew(), knows_all()).numbers["membership_auc_after"]


def test_without_unseen_examples_nothing_is_said():
    (found,) = recheck(never_knew(), knows_all(), earlier(), {"x": training()})
    assert found.answer == "inconclusive" and "no unseen examples" in found.reason


def test_every_earlier_request_has_its_answer():
    pasts = [earlier(indices=range(200), name="a"), earlier(indices=range(200, 400), name="a")]
    past = Earlier(pasts[0].chain + pasts[1].chain, pasts[0].forgotten + pasts[1].forgotten)
    first, second = recheck(never_knew(), knows_all(), past, {"x": training()}, unseen())
    assert (first.name, first.answer) == ("a", "came back")
    assert (second.name, second.answer) == ("a (2)", "remembered")


def test_no_past_no_answers():
    assert recheck(never_knew(), knows_all(), Earlier(), {"x": training()}, unseen()) == ()


def test_the_answer_is_plain_data():
    document = asked(never_knew(), knows_all()).document
    assert json.loads(json.dumps(document)) == document


class TestAWholeClass:
    def blobs(self):
        return tiny.blobs(150), tiny.blobs(150, seed=5)

    def models(self, data):
        kept = Subset(data, np.flatnonzero(data.labels != 2).tolist())
        return tuple(amnesty.train(tiny.mlp(), part, amnesty.Recipe(epochs=30)) for part in (kept, data))

    def past(self, data):
        indices = np.flatnonzero(data.labels == 2).tolist()
        known = {"holdout_forgotten_accuracy": 0.98, "holdout_forgotten_accuracy_low": 0.9, "forget_accuracy": 1.0}
        known |= {"holdout_forgotten_accuracy_high": 1.0, "forget_accuracy_low": 0.95, "forget_accuracy_high": 1.0}
        return earlier(data, indices, known=None, classes=[2], **known)

    def test_a_class_that_is_recognised_again_came_back(self):
        data, held = self.blobs()
        without, with_it = self.models(data)
        (found,) = recheck(without, with_it, self.past(data), {"x": data}, held)
        assert found.answer == "came back" and "unseen examples of the class recognised" in found.reason
        (found,) = recheck(without, without, self.past(data), {"x": data}, held)
        assert found.answer == "not detected"

    def test_its_own_examples_tell_where_no_others_are_left(self):
        data, held = self.blobs()
        without, with_it = self.models(data)
        others = Subset(held, np.flatnonzero(held.labels != 2).tolist())
        (found,) = recheck(without, with_it, self.past(data), {"x": data}, others)
        assert found.answer == "came back"


class TestTheChange:
    def test_placements_are_those_of_counting(self):
        members, others = np.array([1.0, 2.0, 2.0]), np.array([0.0, 2.0])
        ours, theirs = _placements(members, others)
        counted = (members[:, None] > others) + 0.5 * (members[:, None] == others)
        np.testing.assert_allclose(ours, counted.mean(axis=1))
        np.testing.assert_allclose(theirs, counted.mean(axis=0))

    @pytest.mark.parametrize("agreement", [0.0, 0.9])
    def test_the_interval_covers_the_truth(self, agreement):
        draw = np.random.default_rng(0)
        hits = 0
        for _ in range(200):
            hits += covered(draw, agreement)
        assert 0.9 < hits / 200 <= 1


def covered(draw, agreement):
    """Whether the interval holds a true change of 0, for two models that agree so much."""
    shared = draw.normal(size=160)
    sides = [agreement * shared + (1 - agreement**2) ** 0.5 * draw.normal(size=160) for _ in range(2)]
    parts = [{"forget": said(side[:80] + 0.5), "holdout": said(side[80:])} for side in sides]
    found = _auc_change(parts[0], parts[1], 0)
    return found.low <= 0 <= found.high


def said(margins):
    zeros = np.zeros(len(margins), dtype=np.int64)
    return amnesty.evaluation.Answers(zeros, zeros, margins, np.abs(margins), np.abs(margins))
