import copy
import inspect
import pickle

import pytest

from amnesty import errors
from amnesty.errors import (
    AmnestyError,
    InvalidInputError,
    MissingExtraError,
    MissingReferenceError,
    NonFiniteError,
    UnknownNameError,
)

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, AmnestyError)]
PLAIN = [c for c in CLASSES if c not in (MissingExtraError, UnknownNameError)]
MADE = [
    *(c("what was expected, what was found") for c in PLAIN),
    NonFiniteError("the loss is nan", step=3, model="the last good one"),
    MissingExtraError("datasets", "data", "Loading images"),
    UnknownNameError("class", "cta", ["cat", "dog"]),
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_error_has_a_word_for_what_it_means(kind):
    assert kind.__doc__.strip().endswith((".", ")")) or "Attributes:" in kind.__doc__ or ">>>" in kind.__doc__


@pytest.mark.parametrize("kind", [c for c in CLASSES if issubclass(c, InvalidInputError)], ids=lambda c: c.__name__)
def test_invalid_input_is_a_value_error(kind):
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize("error", MADE, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_errors_cross_to_another_process(error, travel):
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert getattr(arrived, "step", None) == getattr(error, "step", None)
    assert getattr(arrived, "model", None) == getattr(error, "model", None)


@pytest.mark.parametrize("kind", [MissingReferenceError, UnknownNameError])
def test_a_key_that_is_missing_is_a_key_error_whose_sentence_is_not_quoted(kind):
    error = kind("A sentence.") if kind is MissingReferenceError else kind("class", "x", ["y"])
    assert isinstance(error, KeyError)
    assert not str(error).startswith(("'", '"'))


class TestUnknownName:
    def test_suggests_the_nearest(self):
        assert "Did you mean 'cat'?" in str(UnknownNameError("class", "cta", ["dog", "cat"]))

    def test_suggests_nothing_where_nothing_is_near(self):
        assert "mean" not in str(UnknownNameError("class", "zebra", ["dog", "cat"]))

    def test_lists_all_in_order(self):
        assert str(UnknownNameError("class", 7, [3, 1])).endswith("Known: 1, 3.")

    def test_says_so_when_there_are_none(self):
        assert str(UnknownNameError("class", "cat", [])).endswith("Known: none.")


def test_missing_extra_says_what_to_install():
    error = MissingExtraError("datasets", "data", "Loading images")
    assert isinstance(error, ImportError)
    assert "pip install 'amnesty[data]'" in str(error)


def test_non_finite_is_an_arithmetic_error_with_step_and_model():
    error = NonFiniteError("nan", step=2, model="m")
    assert isinstance(error, ArithmeticError)
    assert (error.step, error.model, str(error)) == (2, "m", "nan")
    assert (NonFiniteError("nan").step, NonFiniteError("nan").model) == (None, None)
