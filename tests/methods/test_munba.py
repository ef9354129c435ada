import copy
import functools
import math
import typing

import pytest
import torch
from torch import nn
from torch.utils.data import Subset

import amnesty
from amnesty.bargaining import Nash, Sum
from amnesty.data import Classes, Examples, split
from amnesty.errors import InvalidInputError
from amnesty.methods import MUNBa
from amnesty.seeds import generator
from amnesty.tasks import Distance, Unseen
from amnesty.tasks.unseen import LIKE
from amnesty.training import Loop, Recipe
from tests import tiny
from tests.methods.by_hand import (
    SETTINGS,
    assert_same_weights,
    batches_that_moved_statistics,
    by_hand,
    entropy,
    slope,
    unit,
)

WISHES = {
    "unseen": lambda task: task.unseen_like(),
    "shifted": lambda task: task.unseen_like(shifted=True),
    "relabel": lambda task: task.relabelled(exclude_true=True),
    "relabel_any": lambda task: task.relabelled(exclude_true=False),
}


@functools.cache
def memorised() -> nn.Module:
    """A model that knows its training examples by heart, so that there is something to forget."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 4))
    return amnesty.train(model, images(120, 0), Recipe(epochs=20, batch_size=32, weight_decay=0.0))


def images(count: int, seed: int) -> Examples:
    """Four classes of images that are large enough to be shifted."""
    random, labels = torch.Generator().manual_seed(seed), torch.arange(count) % 4
    centres = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    return Examples(centres[labels] + torch.randn(count, 1, 8, 8, generator=random), labels)


def task(validation: bool = True, whole: bool = False) -> amnesty.Classification:
    """A tenth is forgotten, or the ``whole`` last class."""
    data = images(120, 0)
    parts = split(data, Classes([3]) if whole else amnesty.data.Fraction(0.1, seed=1)).parts(data)
    seen = {"forget": parts["forget"], "retain": parts["retain"]}
    return amnesty.Classification(
        copy.deepcopy(memorised()), **seen, **({"validation": images(40, 5)} if validation else {})
    )


@functools.cache
def by_heart() -> tuple[nn.Module, Examples]:
    """A model that knows labels which mean nothing, so that no unseen example looks like one it was trained on."""
    random = torch.Generator().manual_seed(3)
    data = Examples(torch.randn(160, 1, 8, 8, generator=random), torch.randint(0, 4, (160,), generator=random))
    seen = Examples(data.images[:120], data.labels[:120])
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    return amnesty.train(model, seen, Recipe(epochs=40, batch_size=20, weight_decay=0.0)), data


def hard() -> amnesty.Classification:
    """A fifth of what is known by heart is forgotten."""
    model, data = by_heart()
    rows = {"forget": range(24), "retain": range(24, 120), "validation": range(120, 160)}
    return amnesty.Classification(copy.deepcopy(model), **{name: Subset(data, list(r)) for name, r in rows.items()})


def steps_of(asked: amnesty.Classification, method: MUNBa) -> list[dict[str, float]]:
    """The history without the lines on rounds."""
    return [record for record in amnesty.unlearn(asked, method).history if "round" not in record]


def rounds_of(outcome: amnesty.Outcome) -> list[dict[str, float]]:
    return [record for record in outcome.history if "round" in record]


def result(asked: amnesty.Classification, method: MUNBa) -> dict[str, torch.Tensor]:
    return tiny.weights(amnesty.unlearn(asked, method).model)


class TestTheStep:
    @pytest.mark.parametrize("wish", WISHES)
    def test_has_length_one_along_the_sum_of_the_unit_gradients(self, wish):
        asked = task()
        method = MUNBa(wish=wish, batch_size=20, forget_batch_size=5, at_least=0, **SETTINGS)
        outcome = amnesty.unlearn(asked, method, seed=3)
        role, random = WISHES[wish](asked), generator(3, "labels", "forget")

        def direction(model, batches):
            forget = unit(slope(model, role.loss(model, batches["forget"], random)))
            retain = unit(slope(model, entropy(model, batches["retain"])))
            return unit([f + r for f, r in zip(forget, retain, strict=True)])

        sizes = {"forget": 5, "retain": 20}
        expected = by_hand(asked, direction, sizes, pairing="cycle_forget", seed=3, **SETTINGS)
        assert_same_weights(outcome.model, expected)

    def test_helps_both_players_alike(self):
        for record in steps_of(task(), MUNBa(at_least=8)):
            share = 1 / math.sqrt(2 * (1 + record["cosine"]))
            assert record["forget_weight"] * record["forget_norm"] == pytest.approx(share)
            assert record["retain_weight"] * record["retain_norm"] == pytest.approx(share)
            assert record["length"] == pytest.approx(1)

    def test_may_fade_where_the_players_disagree(self):
        for record in steps_of(task(), MUNBa(rule=Nash(length="fading"), at_least=8)):
            assert record["forget_weight"] * record["forget_norm"] == pytest.approx(1)
            assert record["retain_weight"] * record["retain_norm"] == pytest.approx(1)
            assert record["length"] == pytest.approx(math.sqrt(2 * (1 + record["cosine"])))

    def test_is_that_of_the_rule_given(self):
        summed = steps_of(task(), MUNBa(rule=Sum((0.25, 4.0)), at_least=0))
        assert {(record["forget_weight"], record["retain_weight"]) for record in summed} == {(0.25, 4.0)}
        bargained = steps_of(task(), MUNBa(rule=Nash(power=(1.0, 3.0), length="nash"), at_least=0))
        assert all(record["length"] == pytest.approx(2) for record in bargained)

    def test_is_plain_where_the_retain_set_goes_on_alone(self):
        method = MUNBa(pairing="retain_tail", batch_size=9, forget_batch_size=6, epochs=1, at_least=0)
        history = steps_of(task(), method)[:12]  # of the first round
        assert ["forget_loss" in record for record in history] == 2 * [True] + 10 * [False]
        assert all(record["retain_weight"] == 1 for record in history[2:])


class TestTheWish:
    @pytest.mark.parametrize(
        ("validation", "whole", "means"),
        [(True, False, "unseen"), (False, False, "relabel"), (False, True, "unseen")],
    )
    def test_by_default_depends_on_what_is_known(self, validation, whole, means):
        asked = task(validation, whole)
        assert tiny.same(result(asked, MUNBa(at_least=8)), result(asked, MUNBa(at_least=8, wish=means)))
        other = {"unseen": "relabel", "relabel": "relabel_any"}[means]
        assert not tiny.same(result(asked, MUNBa(at_least=8)), result(asked, MUNBa(at_least=8, wish=other)))

    def test_to_look_unseen_needs_to_know_what_that_is(self):
        with pytest.raises(InvalidInputError, match="validation"):
            amnesty.unlearn(task(validation=False), MUNBa(wish="unseen"))

    def test_is_one_of_a_few(self):
        with pytest.raises(InvalidInputError, match="`wish` must be one of auto, .*found 'oblivion'"):
            MUNBa(wish="oblivion")


class TestTheReach:
    """Of methods that nothing tells when to stop; `TestTheRounds` has the others."""

    OPEN: typing.ClassVar = {"wish": "relabel", "at_least": 0}

    def test_is_a_share_of_the_weights_over_the_whole_run(self):
        asked = task()
        norm = math.sqrt(sum(p.square().sum().item() for p in asked.model.parameters()))
        given = {"wish": "relabel", "reach": 0.3, "schedule": "constant", "batch_size": 20, "at_least": 17}
        history = amnesty.unlearn(asked, MUNBa(**given)).history
        assert len(history) == 18  # whole passes
        assert all(record["lr"] == pytest.approx(0.3 * norm / 18) for record in history)

    def test_counts_only_weights_that_may_move(self):
        asked = task()
        asked.model[1].requires_grad_(False)
        norm = math.sqrt(sum(p.square().sum().item() for p in asked.model[3].parameters()))
        history = amnesty.unlearn(asked, MUNBa(reach=0.3, **self.OPEN)).history
        assert history[0]["lr"] == pytest.approx(0.3 * norm / len(history))

    def test_grows_with_the_weights(self):
        small, large = task(), task()
        with torch.no_grad():
            for p in large.model.parameters():
                p.mul_(2.0)
        rates = [amnesty.unlearn(asked, MUNBa(**self.OPEN)).history[0]["lr"] for asked in (small, large)]
        assert rates[1] == pytest.approx(2 * rates[0])

    def test_yields_to_a_learning_rate(self):
        assert amnesty.unlearn(task(), MUNBa(lr=0.02, at_least=0)).history[0]["lr"] == 0.02

    @pytest.mark.parametrize(("given", "last"), [({}, 0.25), ({"schedule": "constant"}, 1.0)])
    def test_is_covered_by_steps_that_follow_the_schedule(self, given, last):
        history = amnesty.unlearn(task(), MUNBa(epochs=1, batch_size=27, **self.OPEN, **given)).history
        assert len(history) == 4 and history[-1]["lr"] == pytest.approx(last * history[0]["lr"])


class TestTheRounds:
    def test_follow_how_far_there_is_to_go(self):
        asked = hard()
        away = Unseen(asked).distance(asked.model)
        assert away.distance > 0.5 and not away.like
        norm = math.sqrt(sum(p.square().sum().item() for p in asked.model.parameters()))
        outcome = amnesty.unlearn(asked, MUNBa(reach=0.05, epochs=1, at_least=0))
        found = rounds_of(outcome)
        assert len(found) > 1 and outcome.history[0]["lr"] == pytest.approx(0.05 * found[0]["reach"] * norm)
        for before, record in zip([away.distance, *(r["distance"] for r in found)], found, strict=False):
            assert record["reach"] == pytest.approx(max(before, 1 / 3))

    def test_end_as_soon_as_the_forget_set_looks_unseen(self):
        asked = hard()
        outcome = amnesty.unlearn(asked, MUNBa())
        found = rounds_of(outcome)
        assert [r["round"] for r in found] == list(range(1, len(found) + 1))
        kept = [r["retained"] >= Unseen(asked).retained(asked.model) - 0.01 for r in found]
        ended = [r["likeness"] >= LIKE and k for r, k in zip(found, kept, strict=True)]
        assert not any(ended[:-1]) and (ended[-1] or len(found) == 8)
        away = Unseen(asked).distance(outcome.model)
        assert (away.distance, away.likeness) == (found[-1]["distance"], found[-1]["likeness"])

    @pytest.mark.parametrize(("given", "count"), [({}, 8), ({"rounds": 1}, 1), ({"rounds": 3}, 3), ({"lr": 1e-6}, 1)])
    def test_are_eight_at_most_unless_told_otherwise(self, given, count):
        asked = hard()
        never = MUNBa(**{"reach": 1e-6, "at_least": 0, **given})  # too short to get anywhere
        assert len(rounds_of(amnesty.unlearn(asked, never))) == count

    def test_repair_with_the_retaining_player_alone(self, monkeypatch):
        asked, played, accuracies = hard(), [], iter([1.0, 0.5, 1.0])
        monkeypatch.setattr(Unseen, "retained", lambda self, model: next(accuracies))
        monkeypatch.setattr(Unseen, "distance", lambda self, model: Distance(0.0, 1.0))
        run = Loop.run
        monkeypatch.setattr(Loop, "run", lambda loop, players, **k: (played.append(players), run(loop, players, **k)))
        outcome = amnesty.unlearn(asked, MUNBa(rule=Sum((0.1, 1.0)), at_least=0))
        assert [list(players) for players in played] == [["forget", "retain"], ["retain"]]
        alone = [r for r in outcome.history if "retain_loss" in r and "forget_loss" not in r]
        assert alone and all(r["length"] == pytest.approx(1) for r in alone)

    def test_are_not_made_where_nothing_tells_the_end(self):
        assert not rounds_of(amnesty.unlearn(task(), MUNBa(wish="relabel", at_least=0)))
        assert not rounds_of(amnesty.unlearn(task(validation=False), MUNBa(at_least=0)))

    @pytest.mark.parametrize(
        ("model", "whole", "given", "beside"),
        [
            (tiny.conv_net, True, {}, "retain"),
            (tiny.conv_net, False, {}, None),
            (tiny.mlp, True, {}, None),
            (tiny.conv_net, True, {"batch_norm": "eval"}, None),
            (tiny.conv_net, True, {"pairing": "retain_tail"}, None),
        ],
    )
    def test_give_batches_of_a_lone_class_company_under_batch_norm(self, monkeypatch, model, whole, given, beside):
        data, played = tiny.blobs(), []
        parts = split(data, Classes([2]) if whole else amnesty.data.Fraction(0.1, seed=1)).parts(data)
        asked = amnesty.Classification(
            model(), forget=parts["forget"], retain=parts["retain"], validation=tiny.blobs(30, 5)
        )
        run = Loop.run
        monkeypatch.setattr(Loop, "run", lambda loop, players, **k: (played.append(players), run(loop, players, **k)))
        amnesty.unlearn(asked, MUNBa(rounds=1, epochs=1, at_least=0, **given))
        assert [players["forget"].beside for players in played] == [beside]


class TestTheSteps:
    @pytest.mark.parametrize(
        ("epochs", "at_least", "passes"), [(2, 0, 2), (2, 6, 2), (2, 12, 2), (2, 13, 3), (1, 40, 7), (3, 1, 3)]
    )
    def test_of_a_round_are_whole_passes_and_enough(self, epochs, at_least, passes):
        history = steps_of(task(), MUNBa(epochs=epochs, at_least=at_least, batch_size=20, rounds=1))
        assert len(history) == 6 * passes and history[-1]["epoch"] == passes

    def test_are_more_than_the_passes_by_default_where_there_is_little_data(self):
        method = MUNBa(rounds=1)
        steps = len(steps_of(task(), method))
        assert method.epochs * 2 < method.at_least <= steps < method.at_least + 2


@pytest.mark.parametrize(("given", "moved"), [({}, 4), ({"batch_norm": "train"}, 8), ({"batch_norm": "eval"}, 0)])
def test_batch_norm_follows_its_policy(given, moved):
    outcome = amnesty.unlearn(tiny.task(), MUNBa(epochs=1, at_least=0, batch_size=27, **given))
    assert batches_that_moved_statistics(outcome) == moved


class TestPaper:
    def test_bargains_while_forget_batches_last_and_goes_on_plainly(self):
        data = tiny.blobs(600)
        parts = split(data, amnesty.data.Fraction(0.1, seed=1)).parts(data)
        asked = amnesty.Classification(tiny.conv_net(), forget=parts["forget"], retain=parts["retain"])
        outcome = amnesty.unlearn(asked, MUNBa.paper())
        both = [record for record in outcome.history if "forget_loss" in record]
        assert [r["epoch"] for r in outcome.history] == [epoch for epoch in range(1, 11) for _ in range(3)]
        assert [r["step"] for r in both] == list(range(1, 31, 3))
        assert all(r["length"] == pytest.approx(1) for r in both)
        assert all(r["retain_weight"] == 1 for r in outcome.history if "forget_loss" not in r)
        assert {r["lr"] for r in outcome.history} == {0.01}
        assert batches_that_moved_statistics(outcome) == 40  # of both players

    def test_is_the_published_algorithm(self):
        asked = tiny.task(tiny.mlp(), count=600)
        outcome = amnesty.unlearn(asked, MUNBa.paper(), seed=3)
        role, random = asked.relabelled(exclude_true=False), generator(3, "labels", "forget")

        def direction(model, batches):
            retain = slope(model, entropy(model, batches["retain"]))
            if "forget" not in batches:
                return retain
            forget = slope(model, role.loss(model, batches["forget"], random))
            return unit([f + r for f, r in zip(unit(forget), unit(retain), strict=True)])

        published = {"lr": 0.01, "epochs": 10, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "constant"}
        sizes = {"forget": 256, "retain": 256}
        expected = by_hand(asked, direction, sizes, pairing="retain_tail", seed=3, **published)
        assert_same_weights(outcome.model, expected)

    def test_does_not_read_a_validation_part(self):
        with_it, without = task(), task(validation=False)
        assert isinstance(with_it.parts["forget"], Subset)
        assert tiny.same(result(with_it, MUNBa.paper()), result(without, MUNBa.paper()))


def test_players_that_never_meet_cannot_bargain():
    with pytest.raises(
        InvalidInputError, match="`pairing` must be one of cycle_forget, retain_tail, truncate, found"
    ):
        MUNBa(pairing="sequential")
