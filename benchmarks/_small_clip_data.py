"""What small CLIPs are trained on: pictures, what may be said of them, and a tokenizer that learned from it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.utils.data import Dataset

from amnesty.data import Examples, load_images
from amnesty.seeds import generator
from tests import tiny_clip
from tests.tiny_clip import Captions, Part

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "cifar10"
HELD_OUT = 5000
SIDE = 32
COPIES = 6  # of each digit to train on, every one in colours of its own
FORMS = (
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "a small photo of a {}",
    "a blurry photo of the {}",
    "there is a {} in the picture",
    "this is a {}",
    "one {}",
    "the {}",
)
TEMPLATES = FORMS[:3]
DIGIT_FORMS = (
    "the digit {}",
    "the number {}",
    "a photo of the digit {}",
    "a drawing of the number {}",
    "a written {}",
)
DIGIT_TEMPLATES = DIGIT_FORMS[:4]
SYNONYMS = {
    "airplane": ("airplane", "plane", "jet"),
    "automobile": ("automobile", "car"),
    "bird": ("bird",),
    "cat": ("cat", "kitten"),
    "deer": ("deer", "fawn"),
    "dog": ("dog", "puppy"),
    "frog": ("frog", "toad"),
    "horse": ("horse", "pony"),
    "ship": ("ship", "boat", "vessel"),
    "truck": ("truck", "lorry"),
}
CLASSES = tuple(SYNONYMS)
BRIGHTNESS = ("dark", "bright")
TINTS = ("reddish", "greenish", "bluish", "greyish")
UNSAID = -2  # a fact for which there is no word; -1 is a caption that is silent about it
HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
JITTER = 11.0  # degrees, a quarter of the way between two hues: one picture in 25 looks more like a neighbour


@dataclass(frozen=True)
class World:
    """Pictures that were made or read once.

    Attributes:
        class_names: of the first data set.
        templates: of its prompts.
        train: what a model is trained on, with a column ``caption``.
        validation: never trained on.
        test: never trained on.
        other_names: classes of the second data set, that of preserved generalisation.
        other_templates: of its prompts.
        other_train: of the second data set; in the toy the same pictures.
        other_test: never trained on.
        said: all captions.
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    other_names: tuple[str, ...]
    other_templates: tuple[str, ...]
    other_train: Examples
    other_test: Examples
    said: Captions


class Pairs(Dataset[tuple[Tensor, str]]):
    """Pictures with one caption each."""

    def __init__(self, data: Examples) -> None:
        self.data, self.captions = data, [str(text) for text in data.columns["caption"]]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        """Return float32 pixels in [0, 1] and a caption."""
        return self.data[index][0], self.captions[index]


def facts(data: Examples) -> Tensor:
    """What is true of each picture, shape [n, F]."""
    return torch.as_tensor(data.columns["facts"])


def captioned(pictures: Tensor, labels: Tensor, names: Sequence[str], true: Tensor, said: Captions) -> Examples:
    """Put facts and a caption, drawn once, beside each picture."""
    random = generator(0, "captions")
    drawn = torch.cat([said.draw(chunk, random)[0] for chunk in true.split(1000)])
    texts = [said.texts[i] for i in drawn.tolist()]
    return Examples(pictures, labels, names, {"facts": true.numpy(), "caption": texts})


# Photographs of ten classes, and digits as pictures of the same size.


@cache
def photographs() -> World:
    """CIFAR-10 without 5,000 pictures, and a quarter of the digits; read once per process."""
    known, unseen, said = load_images(DATA, "train"), load_images(DATA, "test"), said_of_photographs()
    order = torch.randperm(len(known), generator=generator(0, "validation"))
    parts = {"validation": order[:HELD_OUT], "train": order[HELD_OUT:].sort().values}
    pixels = {name: known.images[rows] for name, rows in parts.items()} | {"test": unseen.images}
    labels = {name: known.labels[rows] for name, rows in parts.items()} | {"test": unseen.labels}
    made = {k: captioned(pixels[k], labels[k], CLASSES, looks(pixels[k], labels[k]), said) for k in pixels}
    digits = {part: drawn_digits(part, said) for part in ("train", "test")}
    return World(
        CLASSES,
        TEMPLATES,
        made["train"],
        made["validation"],
        made["test"],
        tiny_clip.DIGITS,
        DIGIT_TEMPLATES,
        digits["train"],
        digits["test"],
        said,
    )


def looks(pixels: Tensor, labels: Tensor) -> Tensor:
    """Class, brightness and tint of uint8 pictures, shape [n, 3]."""
    mean = torch.stack([chunk.float().mean((2, 3)) / 255 for chunk in pixels.split(5000)]).flatten(0, 1)
    light, spread = mean.mean(1), mean.amax(1) - mean.amin(1)
    unsaid = torch.full_like(labels, UNSAID)
    brightness = torch.where(light < 0.41, 0, torch.where(light > 0.55, 1, unsaid))
    tint = torch.where(spread > 0.06, mean.argmax(1), torch.where(spread < 0.025, len(TINTS) - 1, unsaid))
    return torch.stack([labels, brightness, tint], 1)


def drawn_digits(part: Part, said: Captions) -> Examples:
    """Digits of 32 x 32 pixels, light on dark, in random colours."""
    intensity, labels = tiny_clip.grey(part)
    copies, random = COPIES if part == "train" else 1, generator(0, "digits", part)
    ink = F.interpolate(intensity, size=SIDE, mode="bilinear").repeat(copies, 1, 1, 1)
    paper, pen = (torch.rand(len(ink), 3, 1, 1, generator=random) * 0.5 + low for low in (0.0, 0.5))
    pixels = (255 * (paper + (pen - paper) * ink)).round().to(torch.uint8)
    labels = labels.repeat(copies)
    true = torch.full((len(labels), 3), UNSAID)
    true[:, 0] = labels + len(CLASSES)
    return captioned(pixels, labels, tiny_clip.DIGITS, true, said)


@cache
def said_of_photographs() -> Captions:
    """About half of what is said of a photograph has a word for its light or for its tint."""
    found = list(_said_of_photographs())
    texts, mentions, weights = zip(*found, strict=True)
    return Captions(texts, torch.tensor(mentions), torch.tensor(weights))


def _said_of_photographs() -> Iterator[tuple[str, tuple[int, int, int], float]]:
    for (label, words), form in itertools.product(enumerate(SYNONYMS.values()), FORMS):
        for word in words:
            yield form.format(word), (label, -1, -1), 1.0 / len(words)
            for k, light in enumerate(BRIGHTNESS):
                yield form.format(f"{light} {word}"), (label, k, -1), 0.7 / len(words)
            for k, tint in enumerate(TINTS):
                yield form.format(f"{tint} {word}"), (label, -1, k), 0.7 / len(words)
    for digit, name in enumerate(tiny_clip.DIGITS):
        for form in DIGIT_FORMS:
            yield form.format(name), (len(CLASSES) + digit, -1, -1), 1.0


def tokenizer(texts: Sequence[str], length: int = 16) -> Any:
    """Train byte pairs on captions: a word of theirs becomes one token, other words are spelled."""
    known = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    known.normalizer = normalizers.Lowercase()
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = [chr(ord("a") + i) for i in range(26)]
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=list(tiny_clip.SPECIAL),
        initial_alphabet=[*alphabet, *(f"{letter}</w>" for letter in alphabet)],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    known.decoder = decoders.BPEDecoder(suffix="</w>")
    known.train_from_iterator(texts, trainer)
    return tiny_clip.finished(known, length, pad="<pad>")


# The toy: digits in eight hues that run into each other.


@cache
def toy() -> World:
    """Digits times hues, the hues with so much jitter that the second data set is not too easy."""
    said = tiny_clip.said(HUES)
    digits: dict[str, Examples] = {}
    hues: dict[str, Examples] = {}
    for part in ("train", "test"):
        intensity, labels = tiny_clip.grey(part)
        random = generator(0, "hues", part)
        hue = torch.randint(len(HUES), (len(labels),), generator=random)
        degrees = 45.0 * hue + JITTER * torch.randn(len(hue), generator=random)
        pixels = (255 * intensity * painted(degrees)[:, :, None, None]).round().to(torch.uint8)
        true = torch.stack([labels, hue], 1)
        digits[part] = captioned(pixels, labels, tiny_clip.DIGITS, true, said)
        hues[part] = captioned(pixels, hue, HUES, true, said)
    kept = len(digits["train"]) * 4 // 5
    return World(
        tiny_clip.DIGITS,
        tiny_clip.TEMPLATES,
        cut(digits["train"], slice(0, kept)),
        cut(digits["train"], slice(kept, None)),
        digits["test"],
        HUES,
        tiny_clip.COLOUR_TEMPLATES,
        cut(hues["train"], slice(0, kept)),
        hues["test"],
        said,
    )


def painted(degrees: Tensor) -> Tensor:
    """Red, green and blue in [0, 1], shape [n, 3], of hues at full saturation."""
    turns = torch.tensor([5.0, 3.0, 1.0])
    k = (turns + degrees[:, None] / 60) % 6
    return 1 - torch.minimum(k, 4 - k).clamp(0, 1)


def cut(data: Examples, rows: slice | Tensor) -> Examples:
    columns = {name: values[rows] for name, values in data.columns.items()}
    return Examples(data.images[rows], data.labels[rows], data.class_names, columns)


def world(kind: Literal["toy", "cifar"]) -> World:
    return toy() if kind == "toy" else photographs()


def silent(said: Captions, classes: Collection[int]) -> Captions:
    """Return the captions that do not mention these numbers of the first fact."""
    keep = ~torch.isin(said.mentions[:, 0], torch.tensor(sorted(classes), dtype=torch.int64))
    texts = tuple(itertools.compress(said.texts, keep.tolist()))
    return Captions(texts, said.mentions[keep], said.weights[keep])
