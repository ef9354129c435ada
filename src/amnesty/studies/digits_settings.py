"""Settings of the methods in the demonstration, per scenario.

MUNBa runs with the library's defaults everywhere. Those of the others are, for each scenario, the best of the grids
in `benchmarks/digits_search.py` by average gap, on digits that the demonstration never reports on.
"""

from collections.abc import Mapping

from amnesty.methods import FineTune, GradientAscent, Method, MUNBa, NegGradPlus, RandomLabels

GUESSING = 2.3026
"""log 10, the cross-entropy of a guess among ten classes, in nats."""

SETTINGS: Mapping[str, Mapping[str, Method]] = {
    "class": {
        "munba": MUNBa(),
        "finetune": FineTune(lr=0.03, epochs=10, batch_size=64),
        "gradient_ascent": GradientAscent(lr=0.003, epochs=5, batch_size=64, batch_norm="train"),
        "negative_gradient_plus": NegGradPlus(retain_share=0.95, lr=0.01, epochs=5, batch_size=64, cap=GUESSING),
        "random_labels": RandomLabels(lr=0.05, epochs=10, batch_size=64, exclude_true=True),
    },
    "random": {
        "munba": MUNBa(),
        "finetune": FineTune(lr=0.1, epochs=10, batch_size=64),
        "gradient_ascent": GradientAscent(lr=0.003, epochs=5, batch_size=64),
        "negative_gradient_plus": NegGradPlus(
            retain_share=0.9, lr=0.05, epochs=5, batch_size=64, cap=GUESSING, batch_norm="retain_stats"
        ),
        "random_labels": RandomLabels(lr=0.003, epochs=5, batch_size=64, exclude_true=True),
    },
    "poisoned": {
        "munba": MUNBa(),
        "finetune": FineTune(lr=0.1, epochs=10, batch_size=64),
        "gradient_ascent": GradientAscent(lr=0.003, epochs=5, batch_size=64, batch_norm="train"),
        "negative_gradient_plus": NegGradPlus(retain_share=0.9, lr=0.01, epochs=5, batch_size=64, cap=GUESSING),
        "random_labels": RandomLabels(lr=0.05, epochs=5, batch_size=64, exclude_true=True),
    },
}
