import dataclasses
import math

import pytest

from amnesty.errors import InvalidInputError
from amnesty.methods import METHODS, FineTune, GradientAscent, MUNBa, NegGradPlus
from amnesty.training import Recipe, faults

COUNTS = [0, -1, 1.5, 2.0, True, "2", math.nan, math.inf, None]
POSITIVE = [0, -0.1, math.nan, math.inf, True, "0.1", 1j]
RATES = [-0.1, math.nan, math.inf, False, "0.9", None]


@pytest.mark.parametrize(
    ("make", "setting", "value"),
    [
        *((Recipe, "epochs", value) for value in COUNTS),
        *((Recipe, "batch_size", value) for value in COUNTS),
        *((MUNBa, "epochs", value) for value in COUNTS),
        *((MUNBa, "forget_batch_size", value) for value in COUNTS),
        *((MUNBa, "at_least", value) for value in COUNTS[1:]),
        *((MUNBa, "reach", value) for value in [*POSITIVE, None]),
        *((MUNBa, "lr", value) for value in POSITIVE),
        *((Recipe, "lr", value) for value in [*POSITIVE, None]),
        *((GradientAscent, "cap", value) for value in POSITIVE),
        *((NegGradPlus, "max_norm", value) for value in POSITIVE),
        *((Recipe, "momentum", value) for value in RATES),
        *((Recipe, "weight_decay", value) for value in RATES),
        *((NegGradPlus, "retain_share", value) for value in [0, 1, 1.2, math.nan, True, "0.9", None]),
        *((MUNBa, "pairing", value) for value in ["zip", 1, None, ["truncate"]]),
        *((MUNBa, "schedule", value) for value in ["warm", True, None]),
        *((MUNBa, "batch_norm", value) for value in ["off", False, None]),
    ],
)
def test_what_is_out_of_range_is_named(make, setting, value):
    with pytest.raises(InvalidInputError, match=f"^{make.__name__}: `{setting}` must be ") as error:
        make(**{setting: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("make", "setting", "value"),
    [
        (MUNBa, "at_least", 0),
        (MUNBa, "lr", None),
        (GradientAscent, "cap", None),
        (GradientAscent, "max_norm", 1),
        (Recipe, "momentum", 0),
        (Recipe, "weight_decay", 0.0),
        (Recipe, "lr", 1),
    ],
)
def test_the_ends_of_the_ranges_are_in(make, setting, value):
    assert getattr(make(**{setting: value}), setting) == value


def test_all_faults_are_named_in_the_order_of_the_settings():
    assert faults(Recipe()) == []
    with pytest.raises(InvalidInputError) as error:
        Recipe(lr=-1, epochs=1.5, batch_size=True, schedule="warm")
    assert str(error.value) == (
        "Recipe: `lr` must be a positive number, found -1; `epochs` must be a whole number of at least 1, found 1.5; "
        "`batch_size` must be a whole number of at least 1, found True; `schedule` must be one of constant, linear, "
        "cosine, found 'warm'."
    )


@pytest.mark.parametrize("make", [Recipe, *METHODS.values()])
def test_every_number_among_the_settings_has_a_range(make):
    good = make(method=FineTune()) if make is METHODS["omp"] else make()
    for setting in dataclasses.fields(make):
        value = getattr(good, setting.name)
        if isinstance(value, float | int) and not isinstance(value, bool):
            with pytest.raises(InvalidInputError, match=f"`{setting.name}` must be "):
                dataclasses.replace(good, **{setting.name: math.nan})
