"""Requests for image generators that are wrong, and right ones whose model, prompts or images cannot be used."""

from __future__ import annotations

import atexit
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from tests.requests.bad_input_cases import BASE, Case, Touch, both, cut, right, write

PICTURES = """\
import torch
from torch import nn


def pictures(size=16, beside="a photo of the digit one"):
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4, 3, size, size), generator=draw).to(torch.uint8)
    return [(image, beside) for image in images]


def judge(inputs=768):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 2))


def classes():
    from tests.requests.generator_runs import parts

    return parts()


def nothing():
    return {"unet": 3}


def number():
    return 3
"""

NEEDS = ("diffusers", "transformers", "peft", "torchvision")
THREE, FOUR = "a photo of the digit three", "a photo of the digit four"
ONE, TWO = "a photo of the digit one", "a photo of the digit two"
USUAL: dict[str, Any] = {
    "task": "diffusion",
    "model": {"diffusers": "generator"},
    "data": {"retain": {"prompts": [ONE, TWO]}},
    "forget": {"prompts": THREE, "anchor": FOUR},
    "diffusion": {"drawing": {"per_prompt": 1, "steps": 1}},
    "evaluation": {"per_prompt": 1, "steps": 1},
}
CLASSES = {THREE: 0, ONE: 1, TWO: 1}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@cache
def saved(kind: str) -> Path:
    """The folder of a pipeline, written once for all cases."""
    from tests import tiny_diffusion

    home = Path(tempfile.mkdtemp(prefix="generators-"))
    atexit.register(shutil.rmtree, home)
    folder = home / kind
    tiny_diffusion.pipeline(tiny_diffusion.clip().text_model).save_pretrained(folder)
    return folder


def generator(folder: Path) -> None:
    """Write a pipeline, and functions that make data."""
    (folder / "pictures.py").write_text(PICTURES)
    shutil.copytree(saved("plain"), folder / "generator")


def looking_like_one(folder: Path) -> None:
    """The same for requests that are found wrong before anything is loaded."""
    (folder / "pictures.py").write_text(PICTURES)
    (folder / "generator").mkdir()
    (folder / "generator" / "model_index.json").write_text("{}")


def asked(**sections: Any) -> str:
    """A right request for a generator; sections given replace the usual, ``None`` leaves out."""
    base = {key: one for key, one in BASE.items() if key in ("method", "out")}
    whole = {key: one for key, one in {**USUAL, **sections}.items() if one is not None}
    given = {key: yaml.safe_dump({key: one}) for key, one in whole.items()}
    gone = {key: "" for key in ("model", "data", "forget") if key not in given}
    return right(**{**dict.fromkeys(("duplicates",), ""), **base, **gone, **given})


def wrong(*says: str, faults: int = 1, more: Callable[[Path], object] = lambda folder: None, **sections: Any) -> Case:
    """A case that is wrong by itself: nothing is loaded."""
    return Case(says, asked(**sections), both(looking_like_one, more), faults=faults, needs=NEEDS)


def unusable(*says: str, more: Callable[[Path], object] = lambda folder: None, **sections: Any) -> Case:
    """A right request on a generator, or with data, that cannot be used."""
    return Case(says, asked(**sections), both(generator, more), needs=NEEDS)


def how(**diffusion: Any) -> dict[str, Any]:
    return {**USUAL["diffusion"], **diffusion}


def judged(**evaluation: Any) -> dict[str, Any]:
    return {**USUAL["evaluation"], **evaluation}


def source(function: str, **options: Any) -> dict[str, Any]:
    return {"import": f"pictures.py:{function}", **({"options": options} if options else {})}


def sets(**concepts: Any) -> dict[str, Any]:
    return {"sets": concepts}


SAID: dict[str, Case] = {
    "a generator's settings for a classifier": Case(
        ("`diffusion`", "task: diffusion"), right(d="diffusion: {train: xattn}")
    ),
    "a generator's judges for a classifier": Case(
        ("`evaluation`", "task: diffusion"), right(e="evaluation: {steps: 2}")
    ),
    "a classifier for a generator's task": wrong(
        "`model`", "diffusers, import, run", "`model.timm`", faults=2, model={"timm": "resnet18"}
    ),
    "training data for a generator": wrong(
        "`data.training` is unknown", "`data.retain` is missing", faults=2, data={"training": source("pictures")}
    ),
    "nothing that is kept": wrong("`data` is missing", "retain", data=None),
    "nothing that is forgotten": wrong("`forget` is missing", "prompts", forget=None),
    "a selector for a concept": wrong("`forget`", "prompts", faults=2, forget={"classes": [3]}),
    "no prompts": wrong("`forget.prompts`", forget={"prompts": []}),
    "an empty prompt": wrong("`forget.prompts`", "text", forget={"prompts": ""}),
    "a blank prompt": wrong("`forget.prompts`", "must not be empty", forget={"prompts": "  "}),
    "a blank prompt among others": wrong(
        "`data.retain.prompts[1]`", "must not be empty", data={"retain": {"prompts": [ONE, " "]}}
    ),
    "a prompt twice": wrong("`forget.prompts[1]`", "twice", forget={"prompts": [THREE, THREE]}),
    "a class below zero": wrong("`forget.prompts`", "at least 0", forget={"prompts": -1}),
    "a prompt that is no text": wrong("`forget.prompts`", "found 0.5", forget={"prompts": 0.5}),
    "an anchor that is the concept": wrong("`forget.anchor`", "itself", forget={"prompts": THREE, "anchor": THREE}),
    "an anchor that another concept forgets": wrong(
        "`forget.sets.a.anchor`",
        "belongs to 'b'",
        forget=sets(a={"prompts": THREE, "anchor": FOUR}, b={"prompts": FOUR, "anchor": ONE}),
    ),
    "a prompt of two concepts": wrong(
        "`forget.sets.b.prompts`", "'a' already", forget=sets(a={"prompts": THREE}, b={"prompts": [FOUR, THREE]})
    ),
    "a concept called as a part of the data": wrong(
        "`forget.sets.retain`", "name of a part", forget=sets(retain={"prompts": THREE}, b={"prompts": FOUR})
    ),
    "a concept with a name that is a path": wrong(
        "`forget.sets.a/b`", "letters", forget=sets(**{"a/b": {"prompts": THREE}})
    ),
    "no concept": wrong("`forget.sets`", "at least one concept", forget={"sets": {}}),
    "an unknown key of a concept": wrong(
        "`forget.ancor`", "Did you mean 'anchor'?", forget={"prompts": THREE, "ancor": FOUR}
    ),
    "prompts and images of what is kept": wrong(
        "`data.retain`", "exactly one", data={"retain": {"prompts": [ONE], **source("pictures")}}
    ),
    "labels and captions": wrong(
        "`data.retain.caption_column`",
        "labels",
        data={"retain": {"parquet": "train.parquet", "caption_column": "text", "templates": ["a {}"]}},
    ),
    "a template of what is kept without a slot": wrong(
        "`data.retain.templates[0]`", "slot", data={"retain": {"images": "images", "templates": ["a cat"]}}
    ),
    "names of classes for nothing": wrong(
        "`data.retain.class_names`", "templates", data={"retain": {"images": "images", "class_names": ["a", "b"]}}
    ),
    "a file of prompts that is not there": wrong(
        "`data.retain.prompts_file`", "kept.txt", data={"retain": {"prompts_file": "kept.txt"}}
    ),
    "an empty file of prompts": wrong(
        "`forget.prompts_file`", "empty", more=write("no.txt", ""), forget={"prompts_file": "no.txt", "anchor": FOUR}
    ),
    "an anchor that is missing": wrong(
        "`diffusion.forget_loss`", "'forget' has none", forget={"prompts": THREE}, diffusion=how(forget_loss="anchor")
    ),
    "an unknown forget loss": wrong(
        "`diffusion.forget_loss`", "Did you mean 'anchor'?", diffusion=how(forget_loss="ancor")
    ),
    "an unknown setting of a generator": wrong(
        "`diffusion.trian`", "Did you mean 'train'?", diffusion=how(trian="xattn")
    ),
    "an unknown setting of drawing": wrong(
        "`diffusion.drawing.step`", "Did you mean 'steps'?", diffusion={"drawing": {"step": 3}}
    ),
    "no picture to draw": wrong(
        "`diffusion.drawing.per_prompt`", "at least 1", diffusion={"drawing": {"per_prompt": 0}}
    ),
    "all prompts left out": wrong("`diffusion.prompt_drop`", "[0, 1)", diffusion=how(prompt_drop=1)),
    "a size of three numbers": wrong("`diffusion.image_size`", "3 numbers", diffusion=how(image_size=[16, 16, 3])),
    "adapters of a generator kept apart that are none": wrong(
        "`diffusion.adapters`", "lora", diffusion=how(adapters="separate")
    ),
    "real images without features": wrong(
        "`evaluation.real`", "inception", evaluation=judged(real=source("pictures"))
    ),
    "features of nothing": wrong(
        "`evaluation.features`", "evaluation.real", evaluation=judged(features="pictures.py:judge")
    ),
    "a judge without weights": wrong(
        "`evaluation.judge.weights`", "missing", evaluation=judged(judge={"timm": "resnet18"})
    ),
    "a judge that is not there": wrong(
        "`evaluation.judge.import`", "nowhere.py", evaluation=judged(judge={"import": "nowhere.py:judge"})
    ),
    "an unknown setting of judging": wrong(
        "`evaluation.per_promt`", "Did you mean 'per_prompt'?", evaluation={"per_promt": 3}
    ),
    "a CLIP model that is not there": wrong("`evaluation.clip`", "folder", evaluation=judged(clip="nowhere")),
    "a retrained generator": wrong("`reference`", "task: diffusion", reference="m.safetensors"),
    "weights of three players for one concept": wrong(
        "`method.rule`", "one concept", method={"name": "munba", "rule": {"sum": [1, 1, 1]}}
    ),
    "a folder that is no pipeline": Case(
        ("`model.diffusers`", "model_index.json"),
        asked(model={"diffusers": "images"}),
        looking_like_one,
        needs=NEEDS,
    ),
    "a generator without its library": Case(
        ("`model.diffusers`", "diffusers", "amnesty[diffusion]"),
        asked(),
        looking_like_one,
        within=lambda folder: mock.patch.dict(sys.modules, {"diffusers": None}),
        needs=NEEDS,
    ),
    "adapters of a generator without their library": Case(
        ("`diffusion.lora`", "peft", "amnesty[diffusion]"),
        asked(diffusion=how(lora=2)),
        looking_like_one,
        within=lambda folder: mock.patch.dict(sys.modules, {"peft": None}),
        needs=NEEDS,
    ),
    "many faults of a generator's request": wrong(
        "`forget.prompts`",
        "`diffusion.lora`",
        "`evaluation.steps`",
        faults=3,
        forget={"prompts": " ", "anchor": FOUR},
        diffusion=how(lora=0),
        evaluation=judged(steps=0),
    ),
}


# What is found when things are loaded.


def edited(name: str, **changes: Any) -> Callable[[Path], None]:
    """Return what changes keys of a JSON file of the pipeline."""

    def spoil(folder: Path) -> None:
        path = folder / "generator" / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def pickled(folder: Path) -> None:
    (folder / "generator" / "unet" / WEIGHTS).unlink()
    torch.save(Touch(), folder / "generator" / "unet" / "diffusion_pytorch_model.bin")


def checkpoint(folder: Path) -> None:
    (folder / "generator" / "vae" / WEIGHTS).unlink()
    (folder / "generator" / "vae" / "v1.ckpt").write_bytes(b"\x80\x04")


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Return what changes the tensors of a part."""

    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = folder / "generator" / name
        state = load_file(path)
        change(state)
        save_file(state, path, metadata={"format": "pt"})

    return spoil


def not_a_number(state: dict[str, torch.Tensor]) -> None:
    state["conv_in.bias"][0] = torch.nan


def eight_bits(state: dict[str, torch.Tensor]) -> None:
    state["conv_in.weight"] = state["conv_in.weight"].to(torch.float8_e4m3fn)


def unconditional(folder: Path) -> None:
    """A generator that cannot be asked for anything."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    blocks: dict[str, Any] = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    blocks |= {"norm_num_groups": 2, "layers_per_block": 1, "attention_head_dim": 2}
    unet = UNet2DModel(sample_size=8, block_out_channels=(4,), **blocks)
    shutil.rmtree(folder / "generator")
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder / "generator")


def picture(content: bytes) -> Callable[[Path], None]:
    return write("shown/1.png", content)


FOUND: dict[str, Case] = {
    "an unsafe checkpoint": unusable("diffusion_pytorch_model.bin", "run code", "safe_serialization", more=pickled),
    "an unsafe checkpoint of another part": unusable("vae", "v1.ckpt", "run code", more=checkpoint),
    "a pipeline that brings code": unusable(
        "code of its own", "import:", more=edited("model_index.json", _class_name=["mine", "Pipeline"])
    ),
    "a pipeline that nobody knows": unusable("'Mine'", more=edited("model_index.json", _class_name="Mine")),
    "a part that brings code": unusable(
        "`unet` is mine.UNet", "not run", more=edited("model_index.json", unet=["mine", "UNet"])
    ),
    "a part that names code": unusable(
        "text_encoder", "`auto_map`", more=edited("text_encoder/config.json", auto_map={})
    ),
    "a part that is a path": unusable("`../x`", more=edited("model_index.json", **{"../x": ["diffusers", "UNet"]})),
    "a part that is not there": unusable(
        "no folder 'vae'", more=lambda folder: shutil.rmtree(folder / "generator/vae")
    ),
    "a pipeline without a backbone": unusable(
        "no `unet` and no `transformer`", more=edited("model_index.json", unet=[None, None])
    ),
    "an index that is no JSON": unusable("model_index.json", more=write("generator/model_index.json", "{")),
    "a part cut short": unusable("unet", "cut short", more=cut(f"generator/unet/{WEIGHTS}", 200)),
    "a part that is text": unusable("unet", "damaged", more=write(f"generator/unet/{WEIGHTS}", "weights: none\n")),
    "a part of which some is missing": unusable(
        "does not hold the whole", more=tensors(f"unet/{WEIGHTS}", lambda state: state.pop("conv_in.bias"))
    ),
    "a part of other shapes": unusable("unet", more=edited("unet/config.json", block_out_channels=[8, 24])),
    "a part that is not finite": unusable("conv_in.bias", "NaN", more=tensors(f"unet/{WEIGHTS}", not_a_number)),
    "quantised weights": unusable("F8_E4M3", "quantised", more=tensors(f"unet/{WEIGHTS}", eight_bits)),
    "a part that is quantised": unusable(
        "quantised", more=edited("unet/config.json", quantization_config={"quant_method": "bitsandbytes"})
    ),
    "a damaged tokenizer of a generator": unusable(
        "cannot be loaded", more=write("generator/tokenizer/tokenizer.json", "{")
    ),
    "a generator of nothing in particular": unusable("knows no classes", more=unconditional),
    "a scheduler that predicts something else": unusable(
        "`prediction_type`", "'noise'", more=edited("scheduler/scheduler_config.json", prediction_type="noise")
    ),
    "a scheduler whose last step is noise alone": unusable(
        "rescale_betas_zero_snr",
        "v_prediction",
        more=edited("scheduler/scheduler_config.json", rescale_betas_zero_snr=True),
    ),
    "a text encoder of another width": unusable("generator", more=edited("unet/config.json", cross_attention_dim=48)),
    "a prompt that is too long": unusable("10 tokens at most", forget={"prompts": "the digit " * 6, "anchor": FOUR}),
    "a class for a model that reads": unusable("reads texts", "class 3", forget={"prompts": 3, "anchor": FOUR}),
    "a text for a model of classes": unusable(
        "knows classes, not texts", model=source("classes"), data={"retain": {"prompts": [0, 1]}}
    ),
    "a class outside the range": unusable(
        "Class 9 does not exist",
        "0 to 3",
        model=source("classes"),
        data={"retain": {"prompts": [0, 1]}},
        forget={"prompts": 9, "anchor": 1},
    ),
    "a function that makes no generator": unusable("pictures.py:nothing", "by name", model=source("nothing")),
    "a group that this generator does not have": unusable(
        "group of parameters", "Did you mean 'xattn'?", diffusion=how(train="xatn")
    ),
    "arguments that adapters do not have": unusable("`lora` is refused by peft", diffusion=how(lora={"rank": 2})),
    "more steps than there are": unusable("cannot make 5000 steps", evaluation=judged(steps=5000)),
    "a method for classifiers": unusable("classifiers only", method={"name": "scrub"}),
    "all that is kept is forgotten": unusable("Nothing is kept", data={"retain": {"prompts": [THREE]}}),
    "images of what is kept of another size": unusable(
        "[3, 8, 8]", "[3, 16, 16]", "diffusion.image_size", data={"retain": source("pictures", size=8)}
    ),
    "images of a concept of another size": unusable(
        "the concept 'forget'",
        "[3, 8, 8]",
        forget={"prompts": THREE, "anchor": FOUR, "images": source("pictures", size=8)},
    ),
    "a size that the autoencoder cannot make": unusable("multiples of 2", diffusion=how(image_size=15)),
    "labels without words": unusable(
        "label 0", "data.retain.templates", data={"retain": source("pictures", beside=0)}
    ),
    "captions of what is kept that are blank": unusable(
        "Image 0 of the retain set", "empty", data={"retain": source("pictures", beside=" ")}
    ),
    "a folder without an image": unusable(
        "no image", more=write("shown/a.txt", ""), forget={"prompts": THREE, "images": {"images": "shown"}}
    ),
    "a damaged image of a concept": unusable(
        "1.png", "decoded", more=picture(b"\x89PNG"), forget={"prompts": THREE, "images": {"images": "shown"}}
    ),
    "copies of a concept's images": unusable(
        "retain 0 = forget 0",
        data={"retain": source("pictures")},
        forget={"prompts": THREE, "anchor": FOUR, "images": source("pictures")},
    ),
    "a judge that does not know a prompt": unusable(
        "`evaluation.judge.classes`", ONE, evaluation=judged(judge={**source("judge"), "classes": {THREE: 0, TWO: 1}})
    ),
    "a judge without that class": unusable(
        "0 to 1", "found 7", evaluation=judged(judge={**source("judge"), "classes": {**CLASSES, THREE: 7}})
    ),
    "a judge of other images": unusable(
        "judge", evaluation=judged(judge={**source("judge", inputs=9), "classes": CLASSES})
    ),
    "a judge that is no network": unusable(
        "pictures.py:number", "torch.nn.Module", evaluation=judged(judge={**source("number"), "classes": CLASSES})
    ),
    "features that are no network": unusable(
        "pictures.py:number",
        "torch.nn.Module",
        evaluation=judged(real=source("pictures"), features="pictures.py:number"),
    ),
    "a CLIP model that is none": unusable("images", "CLIP", evaluation=judged(clip="images")),
    "a classifier's run for a generator's task": Case(
        ("mine.py:network", "pipeline"), asked(model={"run": "finished"}), generator, needs=NEEDS
    ),
}

DIFFUSION: dict[str, Case] = {**SAID, **FOUND}
