import pytest
import torch

from amnesty.data.near import Images, are_images, reduced
from amnesty.errors import DataError
from tests.data.copies import CHANGES, photographs

SEARCHED = photographs(80)


def nearest(searched, pictures, **options):
    return Images(reduced(searched)).nearest(reduced(pictures), **options)


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_told_apart(change):
    index, likeness = nearest(SEARCHED, CHANGES[change](SEARCHED))
    right = index == torch.arange(len(SEARCHED))
    assert (right & (likeness >= 0.9)).float().mean() >= 0.9


def test_other_pictures_are_nowhere_near():
    _, likeness = nearest(SEARCHED, photographs(300, seed=1), exact=torch.ones(300, dtype=torch.bool))
    assert likeness.max() < 0.7


def test_what_is_equal_has_likeness_1():
    index, likeness = nearest(SEARCHED, SEARCHED)
    assert index.tolist() == list(range(80))
    torch.testing.assert_close(likeness, torch.ones(80), atol=1e-5, rtol=0)


@pytest.mark.parametrize("unit", [255.0, 1e-3])
def test_the_unit_of_pixels_does_not_matter(unit):
    changed = CHANGES["shifted by 1"](SEARCHED)
    index, likeness = nearest(SEARCHED, changed)
    other_index, other = nearest(unit * SEARCHED - unit / 3, unit * changed - unit / 3)
    assert index.tolist() == other_index.tolist()
    torch.testing.assert_close(likeness, other, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (16, 3), (28, 1), (96, 3)])
def test_of_any_size(side, channels):
    pictures = photographs(40, seed=2, side=side, channels=channels)
    step = max(1, side // 32)
    copies = torch.roll(pictures.flip(3), (step, step), (2, 3)) * 0.8 + 0.1
    index, likeness = nearest(pictures, copies)
    assert ((index == torch.arange(40)) & (likeness > 0.9)).float().mean() >= 0.9


def test_sides_may_differ():
    pictures = photographs(30, seed=3, side=64)[:, :, :20]
    index, likeness = nearest(pictures, pictures.flip(3))
    assert index.tolist() == list(range(30))
    assert likeness.min() > 0.95


def test_blank_pictures_are_like_nothing():
    blank = torch.full((3, 3, 32, 32), 0.7)
    blank[1, 0, 3, 3] += 0.003  # one pixel by less than a grey level
    blank[2] = float("nan")
    _, likeness = nearest(torch.cat([SEARCHED[:5], blank]), blank, exact=torch.ones(3, dtype=torch.bool))
    assert likeness.max() <= 0.1
    _, likeness = nearest(blank, SEARCHED[:5])
    assert likeness.max() <= 0.1


def test_likeness_is_computed_where_it_is_low_only_if_wanted():
    others, wanted = photographs(50, seed=4), torch.arange(50) < 25
    _, likeness = nearest(SEARCHED, others, exact=wanted)
    assert (likeness[:25] > -1).all()
    assert (likeness[25:] == -1).any()


def test_other_shapes_are_refused():
    with pytest.raises(DataError, match=r"of one size, found \[3, 32, 32\] and \[3, 28, 28\]"):
        nearest(SEARCHED, photographs(2, side=28))


@pytest.mark.parametrize(
    ("shape", "answer"), [((2, 3, 8, 8), True), ((2, 3, 4, 8), False), ((2, 64, 8, 8), False), ((2, 64), False)]
)
def test_what_an_image_is(shape, answer):
    assert are_images(torch.zeros(shape)) is answer
