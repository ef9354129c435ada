"""Requests on Stable Diffusion in miniature, which was not trained: what it draws depends on the prompt, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from amnesty.requests.again import datasets, reevaluated
from amnesty.requests.running import Result
from amnesty.requests.verifying import Verification, verify
from amnesty.seeds import generator, seeded
from tests.requests import whole_runs
from tests.requests.whole_runs import run

pytest.importorskip("diffusers", reason="the `diffusion` extra is not installed")
pytest.importorskip("tests.vision", reason="timm or torchvision is not installed")

from tests import tiny_diffusion

HERE = "tests.requests.generator_runs"
THREE, FOUR, FIVE = (f"a photo of the digit {name}" for name in ("three", "four", "five"))
KEPT = [f"a photo of the digit {name}" for name in ("one", "two", "four", "five")]
QUICK: dict[str, Any] = {"name": "munba", "lr": 0.02, "epochs": 1, "at_least": 3, "batch_size": 4}
DRAWING = {"per_prompt": 3, "steps": 2, "guidance": 2.0}
JUDGING = {"per_prompt": 4, "steps": 2, "guidance": 2.0}
CLASSES = {THREE: 0, **dict.fromkeys(KEPT, 1)}


def folder(path: Path, dtype: torch.dtype | None = None, seed: int = 0) -> Path:
    """Save the pipeline as `DiffusionPipeline.save_pretrained` does."""
    pipe = tiny_diffusion.pipeline(tiny_diffusion.clip(seed).text_model, seed)
    (pipe if dtype is None else pipe.to(dtype)).save_pretrained(path)
    return path


class Brightness(nn.Module):
    """A judge of two classes: brighter than the average picture, or darker."""

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, images: Tensor) -> Tensor:
        light = images.flatten(1).mean(1) - self.level
        return 20 * torch.stack([light, -light], 1)


def judge(level: float = 0.5) -> nn.Module:
    return Brightness(level)


class Cells(nn.Module):
    """What distances are taken of: 3 x 2 x 2 means of the colours."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def features() -> nn.Module:
    return Cells()


class Pictures(Dataset[Any]):
    """Images by chance, uint8, each with what is given beside it."""

    def __init__(self, beside: list[Any], size: int = 16, name: str = "pictures") -> None:
        self.images = torch.randint(256, (len(beside), 3, size, size), generator=generator(0, name)).to(torch.uint8)
        self.beside = beside

    def __len__(self) -> int:
        return len(self.beside)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.images[index], self.beside[index]


def captioned(size: int = 16) -> Pictures:
    return Pictures([*KEPT, THREE] * 2, size)


def labelled() -> Pictures:
    return Pictures([k % 3 for k in range(9)], name="labelled")


def of_three(count: int = 4) -> Pictures:
    return Pictures([0] * count, name="of three")


def pipeline() -> Any:
    return tiny_diffusion.pipeline(tiny_diffusion.clip().text_model)


def parts() -> dict[str, Any]:
    """The parts of a generator of classes, which has no pipeline of its own and works on pixels."""
    from diffusers import DDIMScheduler, UNet2DModel

    with seeded(0, torch.device("cpu")):
        unet = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            num_class_embeds=5,
        ).eval()
    return {"unet": unet, "scheduler": DDIMScheduler(clip_sample=True)}


def source(name: str, **options: Any) -> dict[str, Any]:
    return {"import": f"{HERE}:{name}", **({"options": options} if options else {})}


FILES = {
    *("request.yaml", "history.jsonl", "scores.json", "forgotten.json", "run.json", "report.html", "audit.json"),
    "drawn.json",
}
PARTS = {"model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler"}
WEIGHTS = "diffusion_pytorch_model.safetensors"
STRONG = {**QUICK, "lr": 2.0}
TWO = {
    "sets": {
        "three": {"prompts": [THREE, "the digit three"], "anchor": FOUR, "images": source("of_three")},
        "five": {"prompts": FIVE, "anchor": "a photo of the digit one"},
    }
}
MORE = {
    "forget": TWO,
    "data": {"retain": source("captioned")},
    "diffusion": {"drawing": DRAWING, "lora": 2, "adapters": "separate", "train": "xattn_kv", "eta": 0.5},
    "evaluation": {
        **JUDGING,
        "judge": {**source("judge"), "classes": {**CLASSES, "the digit three": 0}},
        "real": source("captioned"),
        "features": f"{HERE}:features",
    },
    "duplicates": "drop",
}


def look(folder: Path) -> Verification:
    """Verify a run with its data."""
    return verify(folder, data=True, reevaluate=reevaluated, datasets=datasets)


def opened(folder: Path) -> Any:
    """What plain diffusers makes of a folder."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def content(**changed: Any) -> dict[str, Any]:
    """A right request; sections given replace those of their name, ``None`` leaves out."""
    usual = {
        "task": "diffusion",
        "model": {"diffusers": "my-generator"},
        "data": {"retain": {"prompts": KEPT}},
        "forget": {"prompts": THREE, "anchor": FOUR},
        "diffusion": {"drawing": DRAWING},
        "evaluation": {**JUDGING, "judge": {**source("judge"), "classes": CLASSES}},
        "method": QUICK,
        "checkpoint": {"steps": 2},
    }
    return {key: value for key, value in {**usual, **changed}.items() if value is not None}


def asked(home: Path, **changed: Any) -> Path:
    """Write a request, and the generator that it names."""
    if not (home / "my-generator").exists():
        folder(home / "my-generator")
    return whole_runs.written(home, content(**changed), str(changed.get("name", "request")))


def ran(home: Path, out: str, **changed: Any) -> Result:
    return quickly(asked(home, **changed), home / out)


def quickly(path: Path, out: Path, **options: Any) -> Result:
    """Run the request in a file without drawing its page, which takes most of the time of such a run."""
    with mock.patch("amnesty.reports.request_page.render", return_value=b"<p>A page</p>"):
        return run(path, out, **options)
