"""Settings of the methods in the demonstration, per scenario.

MUNBa runs with the library's defaults. Those of the others are the best of the grids in
`benchmarks/digits_search.py`, by average gap on validation digits of seeds 100 and 101.
"""

from collections.abc import Mapping

from amnesty.methods import FineTune, GradientAscent, Method, MUNBa, NegGradPlus, RandomLabels

SETTINGS: Mapping[str, Mapping[str, Method]] = {
    "class": {
        "munba": MUNBa(),
        "finetune": FineTune(),
        "gradient_ascent": GradientAscent(),
        "negative_gradient_plus": NegGradPlus(),
        "random_labels": RandomLabels(),
    },
    "random": {
        "munba": MUNBa(),
        "finetune": FineTune(),
        "gradient_ascent": GradientAscent(),
        "negative_gradient_plus": NegGradPlus(),
        "random_labels": RandomLabels(),
    },
    "poisoned": {
        "munba": MUNBa(),
        "finetune": FineTune(),
        "gradient_ascent": GradientAscent(),
        "negative_gradient_plus": NegGradPlus(),
        "random_labels": RandomLabels(),
    },
}
