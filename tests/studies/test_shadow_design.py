import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amnesty.errors import InvalidInputError
from amnesty.studies.shadow_design import halves

LABELS = np.arange(97) % 4


@st.composite
def pools(draw):
    """Labels and targets that leave at least two examples of every class, or none."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0, 2, 3, 4, 7])), min_size=1, max_size=5))
    sizes = [(t, k) for t, k in sizes if t + k >= 2] + [(2, 2)]
    labels = np.repeat(np.arange(len(sizes)), [t + k for t, k in sizes])
    is_target = np.concatenate([np.arange(t + k) < t for t, k in sizes])
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))
    return labels[order], np.flatnonzero(is_target[order])


@given(pools(), st.sampled_from([4, 6, 10]), st.integers(0, 2**40))
def test_properties_of_every_design(pool, shadows, seed):
    labels, targets = pool
    design = halves(labels, targets, shadows, seed)
    trained, forgotten, retained = design.trained, design.forgotten, design.retained
    assert trained.shape == forgotten.shape == (shadows, len(labels)) and trained.dtype == forgotten.dtype == bool
    assert (trained[::2] == ~trained[1::2]).all() and (trained.sum(axis=0) == shadows // 2).all()
    assert (design.groups == np.repeat(np.arange(shadows // 2), 2)).all()
    is_target = np.isin(np.arange(len(labels)), targets)
    assert (forgotten == (trained & is_target)).all() and (retained == (trained & ~is_target)).all()
    assert np.ptp(trained.sum(axis=1)) <= 1 and np.ptp(forgotten.sum(axis=1)) <= 1
    for c in np.unique(labels):
        for part in (forgotten, retained):
            assert np.ptp(part[:, labels == c].sum(axis=1)) <= 1


def test_an_even_pool_gives_exact_halves():
    design = halves(np.arange(96) % 4, range(10), 8)
    assert (design.trained.sum(axis=1) == 48).all() and (design.forgotten.sum(axis=1) == 5).all()


def test_divisions_are_independent_and_fair():
    design = halves(LABELS, range(11), 2000, seed=3)
    first = design.trained[::2].astype(float)
    assert np.abs(first.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(1000)
    # Who is together with whom is random too, up to the pull of equal counts: -1 / (size - 1) within 21 or more.
    together = np.corrcoef(first[:, 11:].T) - np.eye(86)
    assert np.abs(together).max() < 4.5 / np.sqrt(1000) + 1 / 20


def test_the_seed_decides():
    first, again, other = (halves(LABELS, range(11), 8, seed).trained for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert (halves(LABELS, range(11), 16).trained[:8] == first).all()  # more shadows leave the first as they are


def test_the_order_of_targets_does_not_matter():
    first, second = (halves(LABELS, targets, 4) for targets in ([5, 9, 70, 1], [70, 1, 9, 5]))
    assert (first.trained == second.trained).all() and first.targets.tolist() == [1, 5, 9, 70]


@pytest.mark.parametrize("shadows", [0, 2, 3, 5, -4, 4.0, True, "4"])
def test_shadows_come_in_two_pairs_at_least(shadows):
    with pytest.raises(InvalidInputError, match="`shadows` must be an even whole number of at least 4"):
        halves(LABELS, range(10), shadows)


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ([], "`targets` must be indices"),
        ([0.0, 1.0], "`targets` must be indices"),
        (np.ones(97, bool), "`targets` must be indices .* bool"),
        ([[1, 2]], "`targets` must be indices"),
        ([-1, 3], r"in \[0, 97\), found -1 to 3"),
        ([3, 97], r"in \[0, 97\), found 3 to 97"),
        ([3, 3, 4], "1 examples more than once"),
        ([3], "at least two of the 97"),
        (range(97), "leave at least two, found 97"),
    ],
)
def test_targets_that_cannot_be(targets, says):
    with pytest.raises(InvalidInputError, match=says):
        halves(LABELS, targets, 4)


def test_a_class_that_only_one_half_could_know():
    with pytest.raises(InvalidInputError, match="Class 9 has 1 examples, of which 1 are no targets"):
        halves(np.array([0, 0, 0, 0, 9, 1, 1, 1, 1]), [0, 1], 4)
    with pytest.raises(InvalidInputError, match="Class 1 has 3 examples, of which 1 are no targets"):
        halves(np.array([0, 0, 0, 0, 1, 1, 1]), [4, 5], 4)


def test_a_whole_class_can_be_forgotten():
    design = halves(np.arange(40) % 4, np.arange(3, 40, 4), 4)
    assert (design.forgotten.sum(axis=1) == 5).all()
