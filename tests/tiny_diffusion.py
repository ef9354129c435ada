"""Image generators of every kind in miniature: every part of the pipeline, none of them trained, for 16 x 16 pixels.

What they draw means nothing, but depends on the prompt through the same layers as in the large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import amnesty
from amnesty.seeds import generator, seeded
from tests import tiny_clip
from tests.tiny_clip import CLIPModel

# isort: split
# It looks for transformers, and so for torchvision.
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,  # noqa: F401  # likewise
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PixArtAlphaPipeline,  # noqa: F401  # for tests, before which it must be imported
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

CPU = torch.device("cpu")
STEPS = 4
GUIDANCE = 5.0
THREE, FOUR, FIVE, SIX = (f"the digit {name}" for name in ("three", "four", "five", "six"))
NUMPY = "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
"""What some samplers of diffusers do on their way to NumPy, which is no business of the tests."""


# Backbones.


def unet(
    width: int, seed: int = 0, *, channels: int = 4, blocks: tuple[int, ...] = (8, 16), groups: int = 4, **more: Any
) -> UNet2DConditionModel:
    """A U-Net of images of 8 x 8, shape [B, channels, 8, 8], that is told texts of this width.

    Args:
        width: of the texts.
        seed: of the weights.
        channels: of the images.
        blocks: channels of the two levels, of which the smaller one attends to the text.
        groups: of each norm, and the width of a head.
        **more: further settings.
    """
    with seeded(seed, CPU):
        return UNet2DConditionModel(
            sample_size=8,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=blocks,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=groups,
            attention_head_dim=groups,
            cross_attention_dim=width,
            **more,
        ).eval()


def class_unet(seed: int = 0, classes: int = 4, **more: Any) -> UNet2DModel:
    """A U-Net of grey images of 8 x 8 pixels that is told one of some classes, or none."""
    with seeded(seed, CPU):
        return UNet2DModel(
            **{"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, **more},
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=4,
            num_class_embeds=classes + 1,
        ).eval()


def dit(seed: int = 0) -> DiTTransformer2DModel:
    """A DiT whose pipeline draws 1,000 classes; it also tells a variance."""
    with seeded(seed, CPU):
        return awake(
            DiTTransformer2DModel(
                num_attention_heads=2,
                attention_head_dim=8,
                out_channels=8,
                num_layers=2,
                sample_size=8,
                num_embeds_ada_norm=1000,
                norm_num_groups=4,
            ).eval()
        )


def pixart(seed: int = 0, side: int = 8) -> PixArtTransformer2DModel:
    """A PixArt for images of ``side`` latents, which also tells a variance; of 128 it is told sizes, too."""
    with seeded(seed, CPU):
        return awake(
            PixArtTransformer2DModel(
                num_attention_heads=2,
                attention_head_dim=12,  # a third of the width for each number of the size
                num_layers=2,
                sample_size=side,
                cross_attention_dim=24,
                caption_channels=16,
                norm_num_groups=4,
            ).eval()
        )


def sd3(seed: int = 0) -> SD3Transformer2DModel:
    with seeded(seed, CPU):
        return awake(
            SD3Transformer2DModel(
                sample_size=8,
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=32,
                caption_projection_dim=16,
                pooled_projection_dim=32,
                pos_embed_max_size=8,
            ).eval()
        )


def awake(model: Any) -> Any:
    """Give layers that begin at 0, as the last ones of transformers do, some weights: else nothing is to be seen."""
    random = generator(0, "awake")
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1 and not p.any():
                p.copy_(0.1 * torch.randn(p.shape, generator=random))
    return model


# The other parts.


def autoencoder(seed: int = 0, **more: Any) -> AutoencoderKL:
    with seeded(seed, CPU):
        return AutoencoderKL(
            sample_size=16,
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            **more,
        ).eval()


def clip(seed: int = 0) -> CLIPModel:
    """A CLIP without training, whose words are as far apart as training would bring them: else they hardly matter."""
    model = tiny_clip.untrained(seed)
    with torch.no_grad():
        model.text_model.embeddings.token_embedding.weight.mul_(10)
    return model


def text_tower(kind: Any, seed: int = 0) -> Any:
    """A text tower of width 16, with or without a projection, as SDXL and Stable Diffusion 3 have two."""
    ends = {"bos_token_id": 0, "pad_token_id": 3, "eos_token_id": 3}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPTextConfig(vocab_size=25, max_position_embeddings=10, projection_dim=16, **sizes, **ends)
    with seeded(seed, CPU):
        tower = kind(config).eval()
    with torch.no_grad():
        getattr(tower, "text_model", tower).embeddings.token_embedding.weight.mul_(10)
    return tower


def t5(seed: int = 0) -> T5EncoderModel:
    with seeded(seed, CPU):
        return T5EncoderModel(T5Config(vocab_size=25, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)).eval()


# Whole generators.


def pipeline(text_encoder: Any, seed: int = 0) -> StableDiffusionPipeline:
    """Put a text encoder into a complete pipeline."""
    return quiet(
        StableDiffusionPipeline(
            vae=autoencoder(seed),
            text_encoder=text_encoder,
            tokenizer=tiny_clip.tokenizer(),
            unet=unet(text_encoder.config.hidden_size, seed),
            scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def stable(seed: int = 0) -> StableDiffusionPipeline:
    """Stable Diffusion."""
    return pipeline(clip(seed).text_model, seed)


def xl(seed: int = 0) -> StableDiffusionXLPipeline:
    """SDXL, with both its text encoders."""
    sizes = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 16}
    return quiet(
        StableDiffusionXLPipeline(
            vae=autoencoder(seed),
            text_encoder=text_tower(CLIPTextModel, seed),
            text_encoder_2=text_tower(CLIPTextModelWithProjection, seed + 1),
            tokenizer=tiny_clip.tokenizer(),
            tokenizer_2=tiny_clip.tokenizer(),
            unet=unet(32, seed, addition_embed_type="text_time", **sizes),
            scheduler=EulerDiscreteScheduler(),
            add_watermarker=False,
        )
    )


def dit_pipeline(seed: int = 0) -> DiTPipeline:
    return quiet(DiTPipeline(dit(seed), autoencoder(seed), DDIMScheduler(clip_sample=False)))


def pixart_pipeline(seed: int = 0) -> PixArtSigmaPipeline:
    return quiet(
        PixArtSigmaPipeline(
            tiny_clip.tokenizer(), t5(seed), autoencoder(seed), pixart(seed), DPMSolverMultistepScheduler()
        )
    )


def sd3_pipeline(seed: int = 0) -> StableDiffusion3Pipeline:
    """Stable Diffusion 3 without its third text encoder, which may be left out."""
    towers = [text_tower(CLIPTextModelWithProjection, seed + k) for k in (0, 1)]
    return quiet(
        StableDiffusion3Pipeline(
            transformer=sd3(seed),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=autoencoder(seed, shift_factor=0.1),
            text_encoder=towers[0],
            tokenizer=tiny_clip.tokenizer(),
            text_encoder_2=towers[1],
            tokenizer_2=tiny_clip.tokenizer(),
            text_encoder_3=None,
            tokenizer_3=None,
        )
    )


def classes(seed: int = 0) -> dict[str, Any]:
    """A class-conditional model of pixels, as a mapping of its parts."""
    return {"unet": class_unet(seed), "scheduler": DDIMScheduler(beta_schedule="squaredcos_cap_v2")}


def pixels(seed: int = 0) -> dict[str, Any]:
    """A model of pixels that is told texts, as a mapping of its parts."""
    encoder = clip(seed).text_model
    return {
        "unet": unet(encoder.config.hidden_size, seed, channels=1),
        "scheduler": DDIMScheduler(beta_schedule="squaredcos_cap_v2"),
        "text_encoder": encoder,
        "tokenizer": tiny_clip.tokenizer(),
    }


GENERATORS: Mapping[str, Callable[..., Any]] = {
    "Stable Diffusion": stable,
    "SDXL": xl,
    "classes": classes,
    "DiT": dit_pipeline,
    "PixArt": pixart_pipeline,
    "Stable Diffusion 3": sd3_pipeline,
    "pixels": pixels,
}
"""One of each kind; each takes a seed."""

OF_CLASSES = ("classes", "DiT")


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def modules(given: Any) -> dict[str, nn.Module]:
    """Return the networks of a generator by name."""
    named = given if isinstance(given, Mapping) else given.components
    return {name: part for name, part in named.items() if isinstance(part, nn.Module)}


def prompts(name: str) -> list[Any]:
    """Return what a kind of generator can be asked for: forgotten, its anchor, and two that are kept."""
    return [0, 1, 2, 3] if name in OF_CLASSES else [THREE, FOUR, FIVE, SIX]


# Tasks.


class Pictures(Dataset[tuple[Tensor, Any]]):
    """Images in [0, 1] with labels or captions, in turn; or without any."""

    def __init__(self, count: int, labels: Sequence[Any] = (), side: int = 16, channels: int = 3, seed: int = 0):
        self.images = torch.rand(count, channels, side, side, generator=generator(seed, "pictures"))
        self.labels = list(labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index]
        return (image, self.labels[index % len(self.labels)]) if self.labels else image


def task(given: Any = None, name: str = "Stable Diffusion", **options: Any) -> amnesty.Diffusion:
    """Return a request about a tiny generator: 6 images of the concept, 8 of two prompts that are kept.

    Args:
        given: the generator; ``None``: that of this name.
        name: in `GENERATORS`.
        **options: of the task, in place of these.
    """
    grey = name in ("classes", "pixels")
    size = {"side": 8 if grey else 16, "channels": 1 if grey else 3}
    gone, anchor, *kept = prompts(name)
    usual = {
        "forget": amnesty.Concept(gone, anchor, Pictures(6, **size)),
        "retain": Pictures(8, kept, seed=1, **size),
    }
    return amnesty.Diffusion(GENERATORS[name]() if given is None else given, **(usual | options))


# What they draw.


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
