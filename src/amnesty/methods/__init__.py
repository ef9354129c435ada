"""Published methods, one file each."""

from amnesty.errors import UnknownNameError
from amnesty.methods.amnesiac import Amnesiac
from amnesty.methods.bad_teacher import BadTeacher
from amnesty.methods.base import About, Edit, Iterative, Method
from amnesty.methods.boundary_expanding import BoundaryExpanding
from amnesty.methods.boundary_shrink import BoundaryShrink
from amnesty.methods.cf_k import CFk
from amnesty.methods.cfw import CFW
from amnesty.methods.ct import CT
from amnesty.methods.esd import ESD
from amnesty.methods.eu_k import EUk
from amnesty.methods.fcs import FCS
from amnesty.methods.finetune import FineTune
from amnesty.methods.fisher_forgetting import FisherForgetting
from amnesty.methods.gradient_ascent import GradientAscent
from amnesty.methods.influence import Influence
from amnesty.methods.kde import KDE
from amnesty.methods.l1_sparse import L1Sparse
from amnesty.methods.lur import LUR
from amnesty.methods.msg import MSG
from amnesty.methods.munba import MUNBa
from amnesty.methods.negative_gradient_plus import NegGradPlus
from amnesty.methods.negotiated import Negotiated
from amnesty.methods.omp import OMP
from amnesty.methods.prmq import PRMQ
from amnesty.methods.random_labels import RandomLabels
from amnesty.methods.retrain import Retrain
from amnesty.methods.rni import RNI
from amnesty.methods.salun import SalUn
from amnesty.methods.salun_soft import SalUnSoft
from amnesty.methods.scissorhands import Scissorhands
from amnesty.methods.scrub import SCRUB
from amnesty.methods.ssd import SSD
from amnesty.methods.successive_random_labels import SuccessiveRandomLabels
from amnesty.methods.uce import UCE
from amnesty.methods.unsir import UNSIR

METHODS: dict[str, type[Method]] = {
    # two losses that meet in every step
    "munba": MUNBa,
    "lur": LUR,
    "negative_gradient_plus": NegGradPlus,
    "scissorhands": Scissorhands,
    # other labels
    "random_labels": RandomLabels,
    "successive_random_labels": SuccessiveRandomLabels,
    "salun": SalUn,
    "salun_soft": SalUnSoft,
    "amnesiac": Amnesiac,
    "unsir": UNSIR,
    # teachers
    "scrub": SCRUB,
    "bad_teacher": BadTeacher,
    "fcs": FCS,
    # the forget set alone
    "gradient_ascent": GradientAscent,
    "boundary_shrink": BoundaryShrink,
    "boundary_expanding": BoundaryExpanding,
    # the retain set alone
    "finetune": FineTune,
    "l1_sparse": L1Sparse,
    "cf_k": CFk,
    # break, then repair
    "eu_k": EUk,
    "msg": MSG,
    "cfw": CFW,
    "prmq": PRMQ,
    "ct": CT,
    "kde": KDE,
    "rni": RNI,
    # one edit of the weights
    "ssd": SSD,
    "fisher_forgetting": FisherForgetting,
    "influence": Influence,
    # image generators
    "esd": ESD,
    "uce": UCE,
    # training anew
    "omp": OMP,
    "retrain": Retrain,
}
"""The one table of methods; the command line, the gallery, studies and the contract tests read it."""


def method_named(name: str) -> type[Method]:
    """Return the method called so in `METHODS`, or in papers (`About.short`), in any case.

    Raises:
        UnknownNameError: there is none; the nearest is suggested.

    >>> method_named("SCRUB") is SCRUB, method_named("NG+") is NegGradPlus
    (True, True)
    """
    known = {method.about.short.lower(): method for method in METHODS.values()} | METHODS
    if name.lower() not in known:
        raise UnknownNameError("method", name, known)
    return known[name.lower()]


__all__ = [
    "CFW",
    "CT",
    "ESD",
    "FCS",
    "KDE",
    "LUR",
    "METHODS",
    "MSG",
    "OMP",
    "PRMQ",
    "RNI",
    "SCRUB",
    "SSD",
    "UCE",
    "UNSIR",
    "About",
    "Amnesiac",
    "BadTeacher",
    "BoundaryExpanding",
    "BoundaryShrink",
    "CFk",
    "EUk",
    "Edit",
    "FineTune",
    "FisherForgetting",
    "GradientAscent",
    "Influence",
    "Iterative",
    "L1Sparse",
    "MUNBa",
    "Method",
    "NegGradPlus",
    "Negotiated",
    "RandomLabels",
    "Retrain",
    "SalUn",
    "SalUnSoft",
    "Scissorhands",
    "SuccessiveRandomLabels",
    "method_named",
]
