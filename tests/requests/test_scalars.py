import math

import pytest
import yaml

from amnesty.requests.scalars import Unclear, resolve

CLEAR = ["", "~", "null", "true", "False", "0", "7", "-12", "+3", "1.5", ".5", "1.", "cat", "a-b", "user 7", "1.2.3"]


@pytest.mark.parametrize("word", CLEAR)
def test_what_is_clear_means_the_same_to_pyyaml(word):
    assert resolve(word) == yaml.safe_load(word)
    assert type(resolve(word)) is type(yaml.safe_load(word))


@pytest.mark.parametrize(("word", "number"), [("1e-3", 0.001), ("5E2", 500.0), ("-1.5e+3", -1500.0), (".5e1", 5.0)])
def test_numbers_with_an_exponent_are_numbers(word, number):
    assert resolve(word) == number and isinstance(yaml.safe_load(word), str | float)


def test_numbers_that_are_not_finite_are_seen():
    assert resolve(".inf") == math.inf and resolve("-.Inf") == -math.inf and math.isnan(resolve(".NaN"))


@pytest.mark.parametrize(
    "word",
    [
        *(
            "no",
            "NO",
            "yes",
            "On",
            "off",
            "0777",
            "007",
            "08",
            "0o17",
            "0x1F",
            "0b10",
            "1_000",
            "1_0.5",
            "12:30",
            "1:2:3.5",
        ),
        *("2024-01-31", "2024-01-31 10:00:00", "=", "<<", "007.5", "9" * 41),
    ],
)
def test_what_readers_of_yaml_disagree_on_is_unclear(word):
    assert isinstance(resolve(word), Unclear)


def test_a_number_that_python_would_refuse_to_read_is_no_error():
    assert isinstance(resolve("9" * 10_000), Unclear)
