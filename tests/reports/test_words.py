import pytest
from hypothesis import given
from hypothesis import strategies as st

from amnesty.reports.words import DASH, MINUS, SPACE, duration, method_name, number, percent, points


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0, "0.00 %"),
        (1, "100.00 %"),
        (0.99731, "99.73 %"),
        (-1e-9, "0.00 %"),
        (-0.031, f"{MINUS}3.10 %"),
        (None, DASH),
    ],
)
def test_percent_has_two_digits(fraction, text):
    assert percent(fraction) == text.replace(" ", SPACE)
    assert number(fraction) == text.removesuffix(" %")


@given(st.floats(-1, 1))
def test_points_are_signed_and_mirror(difference):
    text = points(difference)
    assert text[0] in f"+{MINUS}±"
    mirrored = points(-difference)
    assert text[1:] == mirrored[1:]
    assert (text[0] == "±") == (text[1:] == "0.00")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (9.999, "10.0 s"),
        (99.96, "1 min 40 s"),
        (59.5 * 60, "59 min 30 s"),
        (86400, "24 h 0 min"),
        (None, DASH),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text.replace(" ", SPACE)


def test_unknown_methods_get_a_name():
    assert method_name("my_own_method") == "My own method"
    assert method_name("") == ""
