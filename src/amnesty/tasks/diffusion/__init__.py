"""Image generators: concepts, players, and who draws."""

from amnesty.tasks.diffusion.concepts import Concept, Prompt
from amnesty.tasks.diffusion.denoiser import Denoiser
from amnesty.tasks.diffusion.losses import FORGET_LOSSES, RETAIN_LOSSES, ForgetLoss, RetainLoss
from amnesty.tasks.diffusion.noising import Noising
from amnesty.tasks.diffusion.sampling import Drawer
from amnesty.tasks.diffusion.task import Diffusion, Drawing

__all__ = [
    "FORGET_LOSSES",
    "RETAIN_LOSSES",
    "Concept",
    "Denoiser",
    "Diffusion",
    "Drawer",
    "Drawing",
    "ForgetLoss",
    "Noising",
    "Prompt",
    "RetainLoss",
]
