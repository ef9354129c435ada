"""Every method of the table keeps the promises of `amnesty.testing`, on a CNN with batch norm, a ViT and an MLP."""

from collections.abc import Mapping
from typing import Any

import pytest

from amnesty.methods import METHODS, FineTune, Method
from amnesty.testing import MODELS, PROMISES, ContractError, check_method
from amnesty.training import Recipe
from tests.vision import vit

QUICK = {"epochs": 2, "batch_size": 64}
RECIPE = Recipe(epochs=2, batch_size=64)

SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "munba": {**QUICK, "at_least": 0},
    "omp": {"recipe": RECIPE, "rewind_epochs": 1, "method": FineTune(**QUICK)},
    "rni": {**QUICK, "fine_epochs": 1},
    "ssd": {"selection": 2.0},
    "scrub": {**QUICK, "ascent_epochs": 1},
    "unsir": {**QUICK, "copies": 2, "noise_steps": 3},
}
"""Settings of methods that need others than the common ones."""

CLASSIFIERS = [name for name, method in METHODS.items() if "generator" not in method.about.needs]
"""What unlearns classifiers; `tests.methods.test_generators` has the promises of the others."""

NETWORKS = {"CNN": MODELS["CNN with batch norm"], "MLP": MODELS["MLP"], "ViT": vit}

REFUSED = {
    **{("ct", "MLP", promise): "nothing to transpose" for promise in PROMISES},
    ("ct", "ViT", "frozen parameters stay"): "nothing to transpose",  # its one convolution is among them
}
"""What is refused before anything is trained, for a reason: method, network, promise -> part of the message."""


def quick(name: str, network: str) -> Method:
    if name == "retrain":
        return METHODS[name](recipe=RECIPE, fresh=NETWORKS[network])
    fields = METHODS[name].__dataclass_fields__
    settings = SPECIAL.get(name, {key: value for key, value in QUICK.items() if key in fields})
    return METHODS[name](**settings, **({"fresh": NETWORKS[network]} if "fresh" in fields else {}))


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_it_keeps_its_promises(name, network, promise):
    expected = REFUSED.get((name, network, promise))
    if expected is None:
        assert check_method(quick(name, network), {network: NETWORKS[network]}, [promise]) == []
    else:
        with pytest.raises(ContractError, match=f"it refuses everything: .*{expected}"):
            check_method(quick(name, network), {network: NETWORKS[network]}, [promise])
