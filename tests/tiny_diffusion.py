"""Stable Diffusion in miniature: every part of the pipeline, none of them trained, for pictures of 16 x 16 pixels.

What it draws means nothing, but depends on the prompt through the same layers as in the large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amnesty.seeds import generator, seeded
from tests import tiny_clip
from tests.tiny_clip import CLIPModel

from diffusers import (  # isort: skip  # it looks for transformers, and so for torchvision
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

CPU = torch.device("cpu")
STEPS = 4
GUIDANCE = 5.0


def unet(width: int, seed: int = 0) -> UNet2DConditionModel:
    """A U-Net of latents, shape [B, 4, 8, 8], that is told texts of this width."""
    with seeded(seed, CPU):
        return UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=4,
            cross_attention_dim=width,
        ).eval()


def autoencoder(seed: int = 0) -> AutoencoderKL:
    with seeded(seed, CPU):
        return AutoencoderKL(
            sample_size=16,
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        ).eval()


def clip(seed: int = 0) -> CLIPModel:
    """A CLIP without training, whose words are as far apart as training would bring them: else they hardly matter."""
    model = tiny_clip.untrained(seed)
    with torch.no_grad():
        model.text_model.embeddings.token_embedding.weight.mul_(10)
    return model


def pipeline(text_encoder: Any, seed: int = 0) -> StableDiffusionPipeline:
    """Put a text encoder into a complete pipeline."""
    pipe = StableDiffusionPipeline(
        vae=autoencoder(seed),
        text_encoder=text_encoder,
        tokenizer=tiny_clip.tokenizer(),
        unet=unet(text_encoder.config.hidden_size, seed),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe: Any, prompts: Sequence[str], seed: int = 0) -> Tensor:
    """Return the picture of each prompt, all of the same noise, shape [n, 3, 16, 16], in [0, 1]."""
    noise = torch.randn(1, 4, 8, 8, generator=generator(seed, "latents")).repeat(len(prompts), 1, 1, 1)
    found: Tensor = pipe(
        list(prompts), latents=noise, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="pt"
    ).images
    return found


def told(pipe: Any, prompts: Sequence[str]) -> Tensor:
    """Return what the U-Net is told of each prompt, shape [n, L, d]."""
    found, _ = pipe.encode_prompt(list(prompts), CPU, 1, do_classifier_free_guidance=False)
    kept: Tensor = found.detach()
    return kept
