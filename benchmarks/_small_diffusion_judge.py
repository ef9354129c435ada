"""Who says what the small diffusion model drew: a classifier of real digits, and the distance of its features."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from amnesty import Recipe, train
from amnesty.data import Examples
from amnesty.evaluation.realism import frechet_distance
from amnesty.studies.digits import DigitsNet
from amnesty.weights import load_weights, save_weights
from benchmarks._small_diffusion import CACHE, DIGITS, SmallDiffusion, draw
from tests import tiny_clip

RECIPE = Recipe(lr=0.1, epochs=20, batch_size=64)
COUNT = 100  # images of each digit; the standard error of a share near one half is 5 points


@cache
def judge() -> nn.Module:
    """A classifier of the training digits, read from the cache; it tells 99.6 % of the others right."""
    path, model = CACHE / "judge.safetensors", DigitsNet()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(path, train(model, Examples(*tiny_clip.grey("train"), DIGITS), RECIPE, seed=0))
    load_weights(path, model)
    return model.eval()


@torch.no_grad()
def judged(images: Tensor) -> Tensor:
    """Return the digit that each image looks like, shape [n]."""
    found: Tensor = judge()(images).argmax(1)
    return found


@torch.no_grad()
def features(images: Tensor) -> Tensor:
    """Return what the judge's last layer reads, shape [n, 64]."""
    found: Tensor = nn.Sequential(*list(judge().children())[:-1])(images)
    return found


def real(digits: Collection[int], part: tiny_clip.Part = "train") -> Tensor:
    """Return the features of real images of these digits."""
    images, labels = tiny_clip.grey(part)
    return features(images[torch.isin(labels, torch.tensor(sorted(digits)))])


def floor(forget: Collection[str]) -> float:
    """Return how far unseen real images of the other digits are from those that the model learns from."""
    kept = _others(forget)
    return frechet_distance(real(kept, "test"), real(kept))


def drawn(model: SmallDiffusion, count: int = COUNT) -> Tensor:
    """Return ``count`` images of each prompt, shape [10, count, 1, 8, 8]; the noise is the same for all models."""
    prompts = [prompt for prompt in model.prompts for _ in range(count)]
    return draw(model, prompts, range(len(prompts))).view(len(DIGITS), count, 1, 8, 8)


def scores(model: SmallDiffusion, forget: Collection[str], count: int = COUNT) -> dict[str, float]:
    """Draw and judge; see `scored`."""
    return scored(drawn(model, count), forget)


def scored(images: Tensor, forget: Collection[str]) -> dict[str, float]:
    """Return what became of images by the digit that was asked for, shape [10, n, 1, 8, 8].

    Args:
        images: as `drawn` gives them.
        forget: digits that the model must no longer draw.

    Returns:
        ``unlearning_accuracy``: share of the forgotten digits' prompts whose image is another digit (absent where
        nothing is forgotten); ``retained_accuracy``: share of the other prompts whose image is the digit asked for;
        ``fid_retained``: Frechet distance of these images to the training images of their digits, which a model
        reaches `floor` of at best.
    """
    count, kept = images.shape[1], _others(forget)
    right = (judged(images.flatten(0, 1)).view(-1, count) == torch.arange(len(DIGITS))[:, None]).double().mean(1)
    gone = [DIGITS.index(name) for name in forget]
    lost = {"unlearning_accuracy": 1 - right[gone].mean().item()} if gone else {}
    far = frechet_distance(features(images[kept].flatten(0, 1)), real(kept))
    return {**lost, "retained_accuracy": right[kept].mean().item(), "fid_retained": far}


def _others(forget: Collection[str]) -> Sequence[int]:
    return [digit for digit, name in enumerate(DIGITS) if name not in forget]
