"""Zero-shot requests that are wrong, and right ones whose model, words or data cannot be used."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from tests.requests.bad_input_cases import BASE, Case, Touch, both, cut, right, write

PICTURES = """\
import torch

from amnesty.data import Examples


def pictures(names=("red", "green"), classes=2):
    draw = torch.Generator().manual_seed(0)
    return Examples(torch.rand(8, 3, 8, 8, generator=draw), torch.arange(8) % classes, names)


def nameless(classes=2):
    return pictures(None, classes)


def said(caption="the red digit"):
    return [(pictures()[i][0], caption) for i in range(4)]


def lonely():
    from tests import tiny_clip

    return tiny_clip.untrained()
"""
"""So few images that nobody can tell whether a model has learnt them."""

NEEDS = ("transformers", "peft", "torchvision")
USUAL: dict[str, Any] = {"templates": ["the {} digit"]}


def clip(model: str = "untrained", tokens: Any = None) -> Callable[[Path], None]:
    """Return what writes the folder of a model of two towers and its processor, and functions that make data."""

    def furnish(folder: Path) -> None:
        from tests import tiny_clip

        (folder / "pictures.py").write_text(PICTURES)
        getattr(tiny_clip, model)().save_pretrained(folder / "clip")
        tiny_clip.processor(tokens=tokens and tokens(tiny_clip)).save_pretrained(folder / "clip")

    return furnish


def asked(zero_shot: dict[str, Any] | None = None, **sections: str) -> str:
    """A right zero-shot request; what is given replaces the usual."""
    spec = {**USUAL, **(zero_shot or {})}
    usual = {
        "model": "model: {huggingface: clip}",
        "data": "data: {training: {import: 'pictures.py:pictures'}}",
        "forget": "forget: {indices: [0, 1]}",
        "task": "task: zero-shot",
        "zero_shot": yaml.safe_dump({"zero_shot": {key: one for key, one in spec.items() if one is not None}}),
    }
    return right(**{**BASE, **usual, **sections})


def wrong(*says: str, **spec: Any) -> Case:
    """A case whose section ``zero_shot`` is wrong by itself."""
    return Case(says, asked(spec), clip(), needs=NEEDS)


def unusable(*says: str, more: Callable[[Path], object] = lambda folder: None, **given: Any) -> Case:
    """A case of a right request on a model that was spoilt."""
    return Case(says, asked(given), both(clip(), more), needs=NEEDS)


def data(function: str) -> str:
    return f"data: {{training: {{import: 'pictures.py:{function}'}}}}"


def source(function: str, **options: Any) -> dict[str, Any]:
    return {"import": f"pictures.py:{function}", **({"options": options} if options else {})}


SAID: dict[str, Case] = {
    "words for a classifier": Case(("`zero_shot`", "task: zero-shot"), right(z="zero_shot: {train: text}")),
    "an unknown task": Case(("`task`", "Did you mean 'zero-shot'?"), right(t="task: zero-shoot")),
    "a classifier for a zero-shot task": Case(
        ("`model`", "huggingface, open_clip, import, run", "`model.timm`"),
        asked(model="model: {timm: resnet18}"),
        clip(),
        faults=2,
        needs=NEEDS,
    ),
    "inputs beside an image processor": Case(
        ("`data.inputs`", "image processor"),
        asked(data="data: {training: {import: 'pictures.py:pictures'}, inputs: {size: 8}}"),
        clip(),
        needs=NEEDS,
    ),
    "a template without a slot": wrong("`zero_shot.templates[1]`", "slot", templates=["the {}", "the digit"]),
    "a template that is text": wrong("`zero_shot.templates`", "list", templates="the {} digit"),
    "a paraphrase with two slots": wrong("`zero_shot.paraphrases[0]`", "one slot", paraphrases=["{} or {}"]),
    "a class named twice": wrong("`zero_shot.class_names[1]`", "twice", class_names=["red", "red", "blue"]),
    "a single class": wrong("`zero_shot.class_names`", "two or more", class_names=["red"]),
    "an anchor that is no class": wrong(
        "`zero_shot.anchor`",
        "Did you mean 'green'?",
        class_names=["red", "green"],
        forget_loss="anchor",
        anchor="gren",
    ),
    "an anchor that nothing is pulled to": wrong("`zero_shot.anchor`", "forget_loss: anchor", anchor="red"),
    "no anchor": wrong("`zero_shot.forget_loss`", "zero_shot.anchor", forget_loss="anchor"),
    "an unknown group": wrong("`zero_shot.train`", "Did you mean 'text_attention'?", train="text_attn"),
    "an unknown retain loss": wrong("`zero_shot.retain_loss[1]`", "'distil'", retain_loss=["ce", "distil"]),
    "contrasts without pairs": wrong("`zero_shot.retain_loss`", "zero_shot.pairs", retain_loss="contrastive"),
    "pairs for nothing": wrong("`zero_shot.pairs`", "contrastive", pairs=source("said")),
    "a bank for nothing": wrong("`zero_shot.bank`", "distill", bank=["the digit"]),
    "features of a frozen tower": wrong("`zero_shot.retain_loss`", "text_attention", retain_loss="feature"),
    "adapters of no rank": wrong("`zero_shot.lora`", "at least 1", lora=0),
    "no adapters to keep apart": wrong("`zero_shot.adapters`", "lora", adapters="separate"),
    "a bank that is not there": wrong(
        "`zero_shot.bank`", "file", "words.txt", retain_loss="distill", bank="words.txt"
    ),
    "an empty bank": Case(
        ("`zero_shot.bank`", "empty.txt"),
        asked({"retain_loss": "distill", "bank": "empty.txt"}),
        both(clip(), write("empty.txt", "")),
        needs=NEEDS,
    ),
    "another data set from nowhere": wrong(
        "`zero_shot.transfers.other`", "one of", transfers={"other": {"limit": 3}}
    ),
    "another data set that is not there": wrong(
        "`zero_shot.transfers.other.import`", "nowhere.py", transfers={"other": {"import": "nowhere.py:data"}}
    ),
    "captions that were trained on": wrong(
        "`zero_shot.captions`", "trained on", retain_loss="contrastive", pairs=source("said"), captions=source("said")
    ),
    "captions in folders": Case(
        ("`zero_shot.captions`", "images"), asked({"captions": {"images": "images"}}), clip(), faults=2, needs=NEEDS
    ),
    "many faults at once": Case(
        ("request.yaml:", "`zero_shot.templates[0]`", "`zero_shot.lora`", "`zero_shot.train`"),
        asked({"templates": ["digit"], "lora": -1, "train": "everything"}),
        clip(),
        faults=3,
        needs=NEEDS,
    ),
    "adapters without their library": Case(
        ("`zero_shot.lora`", "peft", "amnesty[clip]"),
        asked({"lora": 2}),
        clip(),
        within=lambda folder: mock.patch.dict(sys.modules, {"peft": None}),
        needs=NEEDS,
    ),
}


def without(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / "clip" / name).unlink()

    return spoil


def pickled(folder: Path) -> None:
    without("model.safetensors")(folder)
    torch.save(Touch(), folder / "clip" / "pytorch_model.bin")


def edited(name: str, **changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "clip" / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def smaller(folder: Path) -> None:
    """Let the image processor make other images than the model takes."""
    path = folder / "clip" / "processor_config.json"
    config = json.loads(path.read_text())
    config["image_processor"] |= {"do_resize": True, "size": {"height": 6, "width": 6}}
    path.write_text(json.dumps(config))


FOUND: dict[str, Case] = {
    "a model of two towers without a tokenizer": unusable(
        "`model.huggingface`", "tokenizer", "save_pretrained", more=without("tokenizer.json")
    ),
    "a model of two towers without an image processor": unusable(
        "`model.huggingface`", "image processor", more=without("processor_config.json")
    ),
    "a damaged tokenizer": unusable("The tokenizer in", more=write("clip/tokenizer.json", "{")),
    "a processor that brings code": unusable(
        "The image processor in",
        more=edited("processor_config.json", image_processor={"image_processor_type": "Mine"}),
    ),
    "towers cut short": unusable("model.safetensors", "cut short", more=cut("clip/model.safetensors", 150)),
    "towers with code": unusable("pytorch_model.bin", "run code", more=pickled),
    "towers of which some is missing": unusable(
        "tensors are", "two towers", more=edited("config.json", projection_dim=16)
    ),
    "a model with one tower": unusable(
        "'vit'", "tower for text", more=write("clip/config.json", '{"model_type": "vit"}')
    ),
    "a text beyond the context": unusable(
        "12 tokens, the model reads 10", templates=["a photo of the {} digit number image of the"]
    ),
    "words that are not known": unusable("cannot tell", "'teal'", class_names=["teal", "mauve"]),
    "an anchor that the data does not have": unusable("'gren'", forget_loss="anchor", anchor="gren"),
    "an anchor that is forgotten": Case(
        ("`anchor`", "'red'"),
        asked({"forget_loss": "anchor", "anchor": "red"}, forget="forget: {classes: [red]}"),
        clip(),
        needs=NEEDS,
    ),
    "images of another size": Case(
        ("takes images of shape [3, 8, 8]", "[3, 6, 6]"), asked(), both(clip(), smaller), needs=NEEDS
    ),
    "a tokenizer of another model": Case(
        ("The tokenizer does not fit the model",),
        asked(),
        clip(tokens=lambda toy: toy.tokenizer((*"bcdefghijklmnop", *toy.WORDS, *toy.DIGITS, *toy.COLOURS))),
        needs=NEEDS,
    ),
    "a group of nothing": Case(
        ("`train='projections'`", "everything would be frozen"),
        asked({"train": "projections"}),
        clip("siglip"),
        needs=NEEDS,
    ),
    "arguments that peft does not have": unusable("`lora` is refused by peft", "rank", lora={"rank": 2}),
    "words for other classes": unusable("2 classes", "3 words", class_names=["red", "green", "blue"]),
    "data without names of classes": Case(
        ("The training data does not name its classes",), asked(data=data("nameless")), clip(), needs=NEEDS
    ),
    "a function that makes a model alone": Case(
        ("pictures.py:lonely", "a pair"), asked(model="model: {import: 'pictures.py:lonely'}"), clip(), needs=NEEDS
    ),
    "a bank of blank lines": unusable(
        "words.txt", "one a line", more=write("words.txt", "\n \n"), retain_loss="distill", bank="words.txt"
    ),
    "captions that are no text": unusable("caption", "a text", captions=source("said", caption=3)),
    "captions beyond the context": unusable(
        "18 tokens", retain_loss="contrastive", pairs=source("said", caption="a " * 16)
    ),
    "another data set without names": unusable(
        "`zero_shot.transfers.other`", "does not name", transfers={"other": source("nameless")}
    ),
    "another data set with other labels": unusable(
        "labels of the other set",
        transfers={"other": {**source("nameless", classes=3), "class_names": ["red", "green"]}},
    ),
    "an architecture of open_clip that is none": Case(
        ("`model.open_clip`", "ViT-B-33", "Did you mean"),
        asked(model="model: {open_clip: ViT-B-33, weights: m.safetensors}"),
        clip(),
        needs=(*NEEDS, "open_clip"),
    ),
    "an architecture of open_clip without weights": Case(
        ("`model.weights`", "missing"),
        asked(model="model: {open_clip: ViT-B-32}"),
        clip(),
        needs=(*NEEDS, "open_clip"),
    ),
    "weights of open_clip that are text": Case(
        ("words.safetensors", "damaged"),
        asked(model="model: {open_clip: RN50, weights: words.safetensors}"),
        both(clip(), write("words.safetensors", "weights: none\n")),
        needs=(*NEEDS, "open_clip"),
    ),
    "an architecture that would be fetched": Case(
        ("nothing is fetched",),
        asked(model="model: {open_clip: roberta-ViT-B-32, weights: m.safetensors}"),
        clip(),
        needs=(*NEEDS, "open_clip"),
    ),
}

CLIP: dict[str, Case] = {**SAID, **FOUND}
