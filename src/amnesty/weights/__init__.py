"""What is in the weights: parts of a network, scores of weights, and surgery."""

from amnesty.weights.files import (
    hash_tensors,
    hash_weights,
    load_weights,
    read_state,
    save_weights,
    tensors_of,
)
from amnesty.weights.fisher import inverse_fisher, inverse_fisher_product
from amnesty.weights.parts import classifier_of, execution_order, is_norm, norm_parameters, stages
from amnesty.weights.per_sample import Labels, per_sample_gradients
from amnesty.weights.renew import How, add_noise, reinitialised, renew, renew_modules
from amnesty.weights.scores import dataset_gradient, squared_gradients
from amnesty.weights.select import prune_magnitude, saliency, smallest_share, top_share
from amnesty.weights.trim import Scope, snip_trim

__all__ = [
    "How",
    "Labels",
    "Scope",
    "add_noise",
    "classifier_of",
    "dataset_gradient",
    "execution_order",
    "hash_tensors",
    "hash_weights",
    "inverse_fisher",
    "inverse_fisher_product",
    "is_norm",
    "load_weights",
    "norm_parameters",
    "per_sample_gradients",
    "prune_magnitude",
    "read_state",
    "reinitialised",
    "renew",
    "renew_modules",
    "saliency",
    "save_weights",
    "smallest_share",
    "snip_trim",
    "squared_gradients",
    "stages",
    "tensors_of",
    "top_share",
]
