from pathlib import Path
from typing import Any, Literal

import pytest

from amnesty.requests.faults import Faults, Origin
from amnesty.requests.values import MISFIT, value_of
from amnesty.requests.yaml_file import read_text
from amnesty.training.settings import Between, Count, Positive

ORIGIN = Origin("request.yaml", Path("/"))


def value(text: str, hint: Any):
    faults = Faults()
    return value_of(read_text(text, ORIGIN, faults), hint, "x", faults), [said for _, said in faults.found]


@pytest.mark.parametrize(
    ("text", "hint", "wanted"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("true", bool, True),
        ("'3'", str, "3"),
        ("null", int | None, None),
        ("3", Count, 3),
        ("1e-3", Positive | None, 0.001),
        ("3", Literal[1, 3], 3),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ("[1, a]", tuple[str | int, ...], (1, "a")),
        ("balanced", Literal["balanced"] | tuple[float, ...] | None, "balanced"),
        ("[1, 2]", Literal["balanced"] | tuple[float, ...] | None, (1.0, 2.0)),
    ],
)
def test_what_fits(text, hint, wanted):
    found, faults = value(text, hint)
    assert found == wanted and type(found) is type(wanted) and faults == []


@pytest.mark.parametrize(
    ("text", "hint", "said"),
    [
        ("true", int, "`x` must be a whole number, found true."),
        ("1", bool, "`x` must be true or false, found 1."),
        ("true", Literal[1, 3], "`x` must be one of 1, 3, found true."),
        ("3", str, "`x` must be text, found 3. Put it in quotes."),
        ("''", str, "`x` must be text, found ''."),
        (".inf", float, "`x` must be a finite number, found .inf."),
        (".nan", Between, "`x` must be in (0, 1), found .nan."),
        ("{}", Count | None, "`x` must be a whole number of at least 1, or null, found an empty mapping."),
        ("[]", tuple[int, ...], "`x` must be a list of whole numbers, found an empty list."),
        ("adma", Literal["sgd", "adam"], "`x` must be one of sgd, adam, found 'adma'. Did you mean 'adam'?"),
        (f"'{'x' * 99}'", int, f"`x` must be a whole number, found '{'x' * 76}...."),
    ],
)
def test_what_does_not_fit_says_what_would(text, hint, said):
    assert value(text, hint) == (MISFIT, [said])


def test_every_item_that_is_wrong_is_named():
    assert value("[1, a, 2, .5]", tuple[int, ...]) == (
        MISFIT,
        ["`x[1]` must be a whole number, found 'a'.", "`x[3]` must be a whole number, found .5."],
    )
