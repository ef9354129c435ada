"""How images become noise: the forward process of a diffusion model, and what the model is trained to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from amnesty.errors import ModelError, one_line

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
"""What the model says: the noise, the velocity, the image, or the flow from image to noise."""

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


@dataclass(frozen=True, eq=False)
class Noising:
    """Mixes images with noise, and says what the model should answer.

    Diffusion: ``x_t = a_t x_0 + s_t e`` with ``a_t^2 = alphas[t]``, ``s_t^2 = 1 - alphas[t]``. Flow matching:
    ``x_s = (1 - s) x_0 + s e`` at time ``1000 s``.

    Args:
        prediction: see `Prediction`.
        alphas: cumulated products, shape [T], float32; ``None`` for flow matching.
        shift: of flow matching towards noise, as larger images need it.

    Source: Ho et al. 2020, arXiv:2006.11239, Eq. 4; Salimans & Ho 2022, arXiv:2202.00512, Appendix D (velocity);
    Esser et al. 2024, arXiv:2403.03206, Eqs. 13 and 19 (flow; times are logit-normal), 23 (shift).
    """

    prediction: Prediction
    alphas: Tensor | None = None
    shift: float = 1.0

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw times, shape [count]: whole ones below T, or of a flow floats in (0, 1000)."""
        if self.alphas is not None:
            return torch.randint(len(self.alphas), (count,), generator=generator)
        share = torch.randn(count, generator=generator).sigmoid()
        return 1000 * self.shift * share / (1 + (self.shift - 1) * share)

    def mixed(self, images: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return x_t, shape [B, C, H, W]."""
        kept, added = self._shares(times, images)
        return kept * images + added * noise

    def target(self, images: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return what the model should answer, shape [B, C, H, W]."""
        if self.prediction == "flow":
            return noise - images
        if self.prediction == "v_prediction":
            kept, added = self._shares(times, images)
            return kept * noise - added * images
        return noise if self.prediction == "epsilon" else images

    def _shares(self, times: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *(1,) * (like.dim() - 1))
        if self.alphas is None:
            share = (times.to(like) / 1000).view(shape)
            return 1 - share, share
        alpha = self.alphas.to(like.device)[times.to(like.device)].to(like.dtype).view(shape)
        return alpha.sqrt(), (1 - alpha).sqrt()


def noising_of(scheduler: Any, *, flow: bool | None = None) -> Noising:
    """Return the forward process that a scheduler of diffusers belongs to, whatever sampler it is.

    Args:
        scheduler: of the pipeline.
        flow: whether the model was trained by flow matching; ``None``: not known.

    Raises:
        ModelError: the scheduler does not fit the model, or what the model predicts.
    """
    name, config = type(scheduler).__name__, getattr(scheduler, "config", None)
    if config is None:
        raise ModelError(f"`scheduler` must be one of diffusers, found {name}.")
    is_flow = "FlowMatch" in name or config.get("prediction_type") == "flow_prediction"
    if flow is not None and flow != is_flow:
        needed = "flow matching, such as `FlowMatchEulerDiscreteScheduler`" if flow else "diffusion, such as DDIM"
        raise ModelError(f"This model needs a scheduler of {needed}, found {name}.")
    if is_flow:
        return Noising("flow", shift=float(config.get("shift") or config.get("flow_shift") or 1.0))
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ModelError(
            f"The scheduler's `prediction_type` must be one of {', '.join(PREDICTIONS[:3])}, found {prediction!r}."
        )
    if config.get("rescale_betas_zero_snr") and prediction == "epsilon":
        raise ModelError(
            "The scheduler has `rescale_betas_zero_snr`, where the last step is noise alone and tells a model that "
            "predicts noise (`prediction_type='epsilon'`) nothing: it needs 'v_prediction' or 'sample'."
        )
    return Noising(prediction, _alphas(config, name))


def _alphas(config: Any, name: str) -> Tensor:
    """Return the schedule as `DDPMScheduler` has it: samplers may change theirs while they run."""
    from diffusers import DDPMScheduler

    make: Any = DDPMScheduler
    if not config.get("beta_schedule") and config.get("trained_betas") is None:
        raise ModelError(f"Nothing is known of the noise of {name}: it has no `beta_schedule`.")
    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    given = {key: config[key] for key in (*keys, "rescale_betas_zero_snr") if config.get(key) is not None}
    try:
        found: Tensor = make(**given).alphas_cumprod
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ModelError(f"Nothing is known of the noise of {name}: {one_line(error, named=False)}") from error
    return found.float()
