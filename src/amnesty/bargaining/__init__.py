"""Players, the Gram matrix of their gradients, rules of combination, and the bargain itself."""

from amnesty.bargaining.agreement import Agreement, Curvature
from amnesty.bargaining.bargain import Bargain
from amnesty.bargaining.gramian import Gradient, gramian
from amnesty.bargaining.lookahead import Lookahead
from amnesty.bargaining.nash import Nash
from amnesty.bargaining.published import PublishedNash
from amnesty.bargaining.rules import Rule, Sum, WhenStationary
from amnesty.bargaining.vocabulary import Player
from amnesty.bargaining.weighting import Weighting

__all__ = [
    "Agreement",
    "Bargain",
    "Curvature",
    "Gradient",
    "Lookahead",
    "Nash",
    "Player",
    "PublishedNash",
    "Rule",
    "Sum",
    "Weighting",
    "WhenStationary",
    "gramian",
]
