"""CLIP in miniature: handwritten digits in four colours, captions of 25 words, two transformers of 60,000 weights.

An image is a digit and a colour, and a caption mentions one of them or both. What the towers learn of digits is
what tests forget; what they learn of colours is the other data set, which must stay as it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from amnesty.data import Examples, load_digits
from amnesty.seeds import generator, seeded
from tests import vision  # noqa: F401

# isort: split
# It looks for torchvision, which `vision` makes importable.
import transformers
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast, SiglipConfig, SiglipModel

Part = Literal["train", "test"]
Batch = tuple[Tensor, Tensor, Tensor]
"""Pixel values [B, 3, H, W], token ids [B, L], and which caption (column) fits which image (row), bool [B, B]."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "green", "blue", "yellow")
RGB = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], dtype=torch.float32)
TEMPLATES = ("a photo of the digit {}", "a image of the number {}", "the digit {}")
COLOUR_TEMPLATES = ("a photo of the {} digit", "a image of the {} number", "the {} digit")
BOTH_TEMPLATES = ("a photo of the {1} digit {0}", "a image of the {1} number {0}", "the {1} digit {0}")
SPECIAL = ("<bos>", "<pad>", "<unk>", "<eos>")
WORDS = ("a", "photo", "image", "of", "the", "digit", "number")
LENGTH = 10
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Captions:
    """All that may be said of an image.

    Attributes:
        texts: the captions.
        mentions: what each says of each fact, shape [M, F]: a number, or -1 where it is silent.
        weights: how often each is drawn where it fits, shape [M].
    """

    texts: tuple[str, ...]
    mentions: Tensor
    weights: Tensor

    def fits(self, facts: Tensor) -> Tensor:
        """Say which caption is true of images with these facts, [B, F]: bool [B, M]."""
        said = self.mentions[None]
        return ((said == -1) | (said == facts[:, None])).all(-1)

    def draw(self, facts: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a caption of each image: their numbers, [B], and which of them fits which image, bool [B, B]."""
        fits = self.fits(facts)
        drawn = torch.multinomial(fits * self.weights, 1, generator=random)[:, 0]
        return drawn, fits[:, drawn]


@cache
def said(colours: Sequence[str] = COLOURS) -> Captions:
    """Four in five captions name the digit alone, the others its colour, or both."""
    found: list[tuple[str, tuple[int, int], float]] = []
    for (d, digit), (c, colour) in itertools.product(enumerate(DIGITS), enumerate(colours)):
        found += [(template.format(digit, colour), (d, c), 0.5) for template in BOTH_TEMPLATES]
    for d, digit in enumerate(DIGITS):
        found += [(template.format(digit), (d, -1), 4.0) for template in TEMPLATES]
    for c, colour in enumerate(colours):
        found += [(template.format(colour), (-1, c), 0.5) for template in COLOUR_TEMPLATES]
    texts, mentions, weights = zip(*found, strict=True)
    return Captions(texts, torch.tensor(mentions), torch.tensor(weights))


# The data.


@cache
def grey(part: Part) -> tuple[Tensor, Tensor]:
    """Three quarters of the digits to train on, a quarter to test: intensities [n, 1, 8, 8] in [0, 1], and labels."""
    known = load_digits()
    rows = torch.arange(len(known))
    train, test = train_test_split(rows.numpy(), test_size=0.25, random_state=0, stratify=known.labels.numpy())
    chosen = torch.from_numpy(train if part == "train" else test)
    return known.images[chosen], known.labels[chosen]


@cache
def images(part: Part) -> Examples:
    """The digits, each in one of four colours: float32, shape [n, 3, 8, 8], in [0, 1]; labelled by digit."""
    intensity, labels = grey(part)
    colours = torch.randint(len(COLOURS), (len(labels),), generator=generator(0, "colours", part))
    return Examples(intensity * RGB[colours][:, :, None, None], labels, DIGITS, {"colour": colours.numpy()})


@cache
def coloured(part: Part) -> Examples:
    """The same images labelled by colour: the other data set."""
    known = images(part)
    return Examples(known.images, torch.as_tensor(known.columns["colour"]), COLOURS)


def facts(part: Part) -> Tensor:
    """Digit and colour of each image, shape [n, 2]."""
    return torch.stack([images(part).labels, coloured(part).labels], 1)


def captions(part: Part, seed: int = 0) -> tuple[str, ...]:
    """One caption of each image, in the order of `images`."""
    drawn, _ = said().draw(facts(part), generator(seed, "captions", part))
    return tuple(said().texts[i] for i in drawn.tolist())


# What reads them.


def tokenizer(words: Sequence[str] = (*WORDS, *COLOURS, *DIGITS), length: int = LENGTH) -> PreTrainedTokenizerFast:
    """A word is a token; what is not known is ``<unk>``."""
    known = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*SPECIAL, *words))}, unk_token="<unk>"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    return finished(known, length, pad="<eos>")


def finished(known: Any, length: int, pad: str) -> PreTrainedTokenizerFast:
    """Put the special tokens around what a tokenizer makes of a text."""
    ends = [(token, SPECIAL.index(token)) for token in ("<bos>", "<eos>")]
    known.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": pad}
    return PreTrainedTokenizerFast(tokenizer_object=known, model_max_length=length, **names)


def processor(side: int = 8, tokens: Any = None) -> CLIPProcessor:
    """Maps captions to ids, and images of ``side`` pixels from [0, 1] to [-1, 1], without resampling them."""
    size = {"size": {"height": side, "width": side}, "do_resize": False, "do_center_crop": False}
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    # From transformers 5 on the plain name is the one that needs torchvision.
    kind: Any = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return CLIPProcessor(kind(**size, **half), tokenizer() if tokens is None else tokens)


def config(
    words: int = 25, text: int = 32, image: int = 48, layers: tuple[int, int] = (2, 2), patch: int = 4
) -> CLIPConfig:
    """Give the towers widths and layers; an inner layer is twice as wide."""
    return CLIPConfig(
        text_config={
            **_widths(text, layers[0]),
            "vocab_size": words,
            "max_position_embeddings": LENGTH,
            "bos_token_id": 0,
            "pad_token_id": 3,
            "eos_token_id": 3,
        },
        vision_config={**_widths(image, layers[1]), "image_size": 8, "patch_size": patch},
        projection_dim=32,
        logit_scale_init_value=2.3,
    )


def _widths(width: int, layers: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": 2 * width}
    return {**sizes, "num_hidden_layers": layers, "num_attention_heads": 4, "hidden_act": "gelu"}


def untrained(seed: int = 0) -> CLIPModel:
    """A `CLIPModel` with random weights."""
    with seeded(seed, torch.device("cpu")):
        return CLIPModel(config()).eval()


def siglip(seed: int = 0) -> SiglipModel:
    """A `SiglipModel` with random weights; its sigmoid loss has a bias beside the scale."""
    known = config().to_dict()
    text, image = ({k: known[kind][k] for k in _widths(0, 0)} for kind in ("text_config", "vision_config"))
    text |= {"vocab_size": 25, "max_position_embeddings": LENGTH, "projection_size": image["hidden_size"]}
    text |= {"bos_token_id": 0, "pad_token_id": 3, "eos_token_id": 3}
    with seeded(seed, torch.device("cpu")):
        return SiglipModel(
            SiglipConfig(text_config=text, vision_config={**image, "image_size": 8, "patch_size": 4})
        ).eval()


def open_clip_model(seed: int = 0) -> nn.Module:
    """A CLIP of open_clip with random weights, whose attention is ``nn.MultiheadAttention``."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    image = CLIPVisionCfg(layers=2, width=48, head_width=12, mlp_ratio=2.0, patch_size=4, image_size=8)
    text = CLIPTextCfg(context_length=LENGTH, vocab_size=25, width=32, heads=4, layers=2, mlp_ratio=2.0)
    with seeded(seed, torch.device("cpu")):
        return CLIP(32, image, text).eval()


# How they are trained.


def normalised(pixels: Tensor) -> Tensor:
    """Do what `processor` does to pixels in [0, 1]."""
    return pixels * 2 - 1


def features(model: CLIPModel, pixels: Tensor | None = None, ids: Tensor | None = None) -> Tensor:
    """Return features of images or of captions, of unit length, shape [n, d]."""
    if pixels is not None:
        other = pixels.shape[-1] != model.vision_model.config.image_size
        found = model.get_image_features(pixel_values=pixels, interpolate_pos_encoding=other)
    else:
        found = model.get_text_features(input_ids=ids)
    return F.normalize(found if isinstance(found, Tensor) else found.pooler_output, dim=-1)


def contrast(model: CLIPModel, batch: Batch) -> Tensor:
    """CLIP's loss, where several captions may fit an image: their share of its probability is uniform."""
    pixels, ids, fits = batch
    logits = model.logit_scale.exp() * features(model, pixels) @ features(model, ids=ids).T
    wanted = fits.to(logits.dtype)
    by_image = F.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True))
    return (by_image + F.cross_entropy(logits.T, (wanted / wanted.sum(0)).T)) / 2


def fit(model: CLIPModel, draw: Callable[[int], Batch], steps: int, lr: float, warm_up: int = 50) -> list[float]:
    """Train in place by AdamW, with a warm-up and a cosine to 0; return the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr, BETAS, weight_decay=0.01, fused=True)
    losses = []
    model.train()
    for step in range(steps):
        rate = min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        loss = contrast(model, draw(step))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


@cache
def weights(steps: int, seed: int) -> dict[str, Tensor]:
    model, known, random = untrained(seed), said(), generator(seed, "training")
    ids = tokenizer()(list(known.texts), padding="max_length", return_tensors="pt")["input_ids"]
    shown, true = images("train").images, facts("train")

    def draw(step: int) -> Batch:
        rows = torch.randint(len(shown), (48,), generator=random)
        drawn, fits = known.draw(true[rows], random)
        noise = 0.05 * torch.randn(shown[rows].shape, generator=random)
        return normalised(shown[rows]) + noise, ids[drawn], fits

    fit(model, draw, steps, lr=1.5e-3)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def trained(steps: int = 400, seed: int = 0) -> CLIPModel:
    """A `CLIPModel` that names digits and colours; a copy of one that is trained once per process."""
    model = untrained(seed)
    model.load_state_dict(weights(steps, seed))
    return model


@torch.no_grad()
def zero_shot(model: CLIPModel, data: Examples, templates: Sequence[str], words: Any = None) -> Tensor:
    """Return the class that each image is nearest to, shape [n], over the mean of its templates."""
    words = tokenizer() if words is None else words
    rows = []
    for name in data.class_names or ():
        texts = [template.format(name) for template in templates]
        ids = words(texts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
        rows.append(F.normalize(features(model, ids=ids).mean(0), dim=0))
    chunks = torch.arange(len(data)).split(1000)
    found = [features(model, normalised(data[chunk][0])) @ torch.stack(rows).T for chunk in chunks]
    return torch.cat(found).argmax(1)


def accuracy(model: CLIPModel, data: Examples, templates: Sequence[str], words: Any = None) -> float:
    """Return the share of images, in [0, 1], that `zero_shot` names right."""
    return (zero_shot(model, data, templates, words) == data.labels).double().mean().item()


def folder(path: Path, model: CLIPModel | None = None) -> Path:
    """Save a model and its processor as a hub's snapshot has them."""
    (untrained() if model is None else model).save_pretrained(path)
    processor().save_pretrained(path)
    return path
