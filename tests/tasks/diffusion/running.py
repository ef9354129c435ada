"""How tests of the task run methods on it."""

import torch

from amnesty.methods import METHODS

QUICK = {"epochs": 1, "batch_size": 4, "forget_batch_size": 3, "at_least": 2, "rounds": 1, "steps": 2, "way": 3}


def quick(name, **changes):
    fields = METHODS[name].__dataclass_fields__
    return METHODS[name](**{key: value for key, value in {**QUICK, **changes}.items() if key in fields})


def moved(wanted, outcome):
    """Names of the parameters that are not what they were."""
    before = dict(wanted.model.named_parameters())
    return {n for n, p in outcome.model.named_parameters() if not torch.equal(p, before[n])}
