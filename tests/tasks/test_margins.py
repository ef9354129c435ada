import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amnesty.tasks.margins import excess, margins


def test_margins_are_log_odds():
    logits, labels = torch.randn(50, 7, dtype=torch.float64), torch.arange(50) % 7
    p = logits.softmax(dim=1)[torch.arange(50), labels]
    torch.testing.assert_close(margins(logits, labels), (p / (1 - p)).log())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_margins_stay_exact_where_a_softmax_rounds(dtype):
    logits = torch.tensor([[1e4, 0.0], [40.0, 0.0], [-1e4, 0.0], [1e30, -1e30]], dtype=dtype)
    expected = torch.tensor([1e4, 40.0, -1e4, 2e30], dtype=dtype)
    torch.testing.assert_close(margins(logits, torch.zeros(4, dtype=torch.int64)), expected)


def test_margins_ignore_an_offset_and_the_order_of_other_classes():
    logits, labels = torch.randn(9, 4, dtype=torch.float64), torch.zeros(9, dtype=torch.int64)
    expected = margins(logits, labels)
    torch.testing.assert_close(margins(logits + 1000, labels), expected)
    torch.testing.assert_close(margins(logits[:, [0, 3, 1, 2]], labels), expected)


floats = st.floats(-50, 50, width=32)


@given(st.lists(floats, min_size=1, max_size=12), st.lists(floats, min_size=1, max_size=12))
def test_excess_compares_rank_with_rank(found, unseen):
    got = excess(torch.tensor(found, dtype=torch.float64), torch.tensor(sorted(unseen), dtype=torch.float64))
    places = np.argsort(np.argsort(found, kind="stable"), kind="stable")
    target = np.quantile(unseen, (places + 0.5) / len(found))
    assert sorted(got.tolist()) == pytest.approx(sorted(np.maximum(found - target, 0)), abs=1e-9)


def test_excess_is_zero_for_what_looks_unseen():
    unseen = torch.randn(40).sort().values
    assert excess(unseen[torch.randperm(40)], unseen).max() <= (unseen[1:] - unseen[:-1]).max()
    assert excess(unseen - 10, unseen).abs().max() == 0


def test_only_what_is_above_gets_a_gradient():
    found = torch.tensor([5.0, -5.0], requires_grad=True)
    excess(found, torch.tensor([0.0])).sum().backward()
    assert found.grad.tolist() == [1.0, 0.0]
