"""Published methods, one file each, and the door to run them."""

from amnesty.errors import UnknownNameError
from amnesty.methods.base import About, Method
from amnesty.methods.finetune import FineTune
from amnesty.methods.gradient_ascent import GradientAscent
from amnesty.methods.munba import MUNBa
from amnesty.methods.negative_gradient_plus import NegGradPlus
from amnesty.methods.random_labels import RandomLabels
from amnesty.methods.retrain import Retrain
from amnesty.methods.unlearning import Outcome, unlearn

METHODS: dict[str, type[Method]] = {
    "munba": MUNBa,
    "finetune": FineTune,
    "gradient_ascent": GradientAscent,
    "negative_gradient_plus": NegGradPlus,
    "random_labels": RandomLabels,
    "retrain": Retrain,
}
"""The one table of methods; the command line, studies and the contract tests read it."""


def method_named(name: str) -> type[Method]:
    """Return the method of a name in `METHODS`. Raises `UnknownNameError`, suggesting the nearest."""
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name]


__all__ = [
    "METHODS",
    "About",
    "FineTune",
    "GradientAscent",
    "MUNBa",
    "Method",
    "NegGradPlus",
    "Outcome",
    "RandomLabels",
    "Retrain",
    "method_named",
    "unlearn",
]
