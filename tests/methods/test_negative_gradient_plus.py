import pytest

import amnesty
from amnesty.errors import InvalidInputError
from amnesty.methods import NegGradPlus
from tests import tiny
from tests.methods.by_hand import (
    SETTINGS,
    assert_same_weights,
    batches_that_moved_statistics,
    by_hand,
    entropy,
    slope,
)


@pytest.mark.parametrize("pairing", ["cycle_forget", "retain_tail", "truncate"])
@pytest.mark.parametrize(("cap", "max_norm"), [(None, None), (1.2, None), (None, 0.1)])
def test_it_is_descent_on_the_weighted_difference(pairing, cap, max_norm):
    task = tiny.task(tiny.mlp())
    method = NegGradPlus(retain_share=0.8, batch_size=9, pairing=pairing, cap=cap, max_norm=max_norm, **SETTINGS)
    outcome = amnesty.unlearn(task, method, seed=3)
    rest = {} if cap is None else {"cap": cap}

    def direction(model, batches):
        loss = 0.8 * entropy(model, batches["retain"])
        if "forget" in batches:
            loss = loss - 0.2 * entropy(model, batches["forget"], **rest)
        return slope(model, loss)

    clip = {} if max_norm is None else {"max_norm": max_norm}
    expected = by_hand(task, direction, {"forget": 9, "retain": 9}, pairing=pairing, seed=3, **clip, **SETTINGS)
    assert_same_weights(outcome.model, expected)


def test_shares_stay_the_same_where_the_retain_set_goes_on_alone():
    task = tiny.task(tiny.mlp())
    history = amnesty.unlearn(task, NegGradPlus(epochs=1, batch_size=9, pairing="retain_tail")).history
    together, tail = history[:2], history[2:]
    assert all(record["forget_weight"] == pytest.approx(0.05) for record in together)
    assert all("forget_weight" not in record for record in tail) and len(tail) == 10
    assert all(record["retain_weight"] == pytest.approx(0.95) for record in history)
    assert all(record["forget_loss"] < 0 < record["retain_loss"] for record in together)


def test_by_default_every_step_has_both_players():
    history = amnesty.unlearn(tiny.task(tiny.mlp()), NegGradPlus(epochs=1, batch_size=9)).history
    assert len(history) == 12 and all("forget_loss" in record for record in history)


@pytest.mark.parametrize(
    ("given", "moved"), [({}, 0), ({"batch_norm": "retain_stats"}, 4), ({"batch_norm": "train"}, 8)]
)
def test_batch_norm_follows_its_policy(given, moved):
    outcome = amnesty.unlearn(tiny.task(), NegGradPlus(epochs=1, batch_size=27, **given))
    assert batches_that_moved_statistics(outcome) == moved


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan"), "0.95", True, None])
def test_a_share_is_between_nothing_and_all(share):
    with pytest.raises(InvalidInputError, match=r"`retain_share` must be in \(0, 1\)"):
        NegGradPlus(retain_share=share)


def test_players_that_never_meet_cannot_be_weighed():
    with pytest.raises(
        InvalidInputError, match="`pairing` must be one of cycle_forget, retain_tail, truncate, found"
    ):
        NegGradPlus(pairing="sequential")
