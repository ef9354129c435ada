"""Copies of the forget set in other parts: what is found, what is found wrongly, time and memory.

Claim: 5,000 of CIFAR-10's training images against the other 45,000 in two minutes of processor time at most, with
       less than 512 MiB of memory; at least 9 of 10 copies that were compressed, brightened, shifted, mirrored,
       resized, slightly cropped or made noisy are clear, and at most 1 of 1,000 images that cannot be copies.
Run:   python -m benchmarks.duplicates --out benchmarks/results/duplicates.json
       With ``--known FILE``, a CSV file of pairs known to people (test,train,judgment: positions, and 1 for the same
       photograph, 2 for a similar one), it says how many of those are found.
"""

from __future__ import annotations

import argparse
import csv
import io
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad
from torch.utils.data import Dataset, Subset

from amnesty.data import Examples, load_digits, load_images
from amnesty.data.duplicates import Duplicates, find_duplicates
from benchmarks._common import environment, save, where

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "cifar10"
MODEL = Path(__file__).parent / "cache" / "cifar" / "report-0" / "original.safetensors"
FORGET = 5000
COPIES = 500
MARK_CPU_SECONDS, MARK_MEBIBYTES = 120.0, 512.0

Change = Callable[[Tensor], Tensor]


def jpeg(images: Tensor, quality: int) -> Tensor:
    from PIL import Image

    found = []
    for image in (255 * images).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2) / 255


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    side = images.shape[-1]
    return pad(images, (4, 4, 4, 4))[:, :, 4 - down : 4 - down + side, 4 - right : 4 - right + side]


def resized(images: Tensor, side: int) -> Tensor:
    small = interpolate(images, (side, side), mode="bilinear", antialias=True)
    return interpolate(small, images.shape[2:], mode="bilinear")


def cropped(images: Tensor, side: int, top: int, left: int) -> Tensor:
    part = images[:, :, top : top + side, left : left + side]
    return interpolate(part, images.shape[2:], mode="bilinear", antialias=True)


def noisy(images: Tensor, deviation: float) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return images + deviation * torch.randn(images.shape, generator=draw)


def turned(images: Tensor, degrees: float) -> Tensor:
    angle = torch.tensor(degrees).deg2rad()
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]])
    grid = affine_grid(turn.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


CHANGES: Mapping[str, Change] = {
    "JPEG, quality 75": lambda x: jpeg(x, 75),
    "JPEG, quality 40": lambda x: jpeg(x, 40),
    "JPEG, quality 20": lambda x: jpeg(x, 20),
    "brighter by 0.1": lambda x: x + 0.1,
    "darker by 0.15": lambda x: x - 0.15,
    "contrast x 0.7": lambda x: 0.7 * (x - 0.5) + 0.5,
    "contrast x 1.4": lambda x: 1.4 * (x - 0.5) + 0.5,
    "gamma 1.5": lambda x: x**1.5,
    "warmer": lambda x: x * torch.tensor([1.1, 1.0, 0.85])[:, None, None],
    "grey": lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1),
    "shifted by 1": lambda x: shifted(x, 1, 0),
    "shifted by 2": lambda x: shifted(x, 0, -2),
    "shifted by 2 and 2": lambda x: shifted(x, 2, 2),
    "shifted by 3 and 3": lambda x: shifted(x, 3, -3),
    "mirrored": lambda x: x.flip(3),
    "to 24 pixels and back": lambda x: resized(x, 24),
    "to 16 pixels and back": lambda x: resized(x, 16),
    "noise 0.02": lambda x: noisy(x, 0.02),
    "noise 0.05": lambda x: noisy(x, 0.05),
    "noise 0.1": lambda x: noisy(x, 0.1),
    "middle 30 pixels": lambda x: cropped(x, 30, 1, 1),
    "corner of 30 pixels": lambda x: cropped(x, 30, 0, 2),
    "middle 28 pixels": lambda x: cropped(x, 28, 2, 2),
    "corner of 28 pixels": lambda x: cropped(x, 28, 4, 0),
    "middle 26 pixels": lambda x: cropped(x, 26, 3, 3),
    "mirrored, shifted by 1, JPEG 40": lambda x: jpeg(shifted(x.flip(3), 1, 1), 40),
    "turned by 10 degrees": lambda x: turned(x, 10),
}
BEYOND = {"noise 0.1", "corner of 28 pixels", "shifted by 3 and 3", "to 16 pixels and back", "turned by 10 degrees"}
"""Changes that are measured and not claimed."""


def changed(examples: Examples, indices: list[int], change: Change) -> Examples:
    """Return copies in 256 grey levels, as a file would hold them."""
    images = examples[indices][0]
    return Examples((255 * change(images).clamp(0, 1)).round().to(torch.uint8), examples.labels[indices])


def recall(found: Duplicates, name: str, count: int) -> dict[str, float]:
    """Return the share of copies that are found, clearly or at all, as copies of what they are copies of."""
    right = [copy for copy in found.copies if copy.part == name and copy.index == copy.forget]
    clear = sum(copy.clear for copy in right)
    return {"clear": clear / count, "clear_or_possible": len(right) / count}


def alarms(found: Duplicates, name: str) -> dict[str, int]:
    mine = [copy for copy in found.copies if copy.part == name]
    return {
        "examples": found.sizes[name],
        "clear": sum(copy.clear for copy in mine),
        "possible": sum(not copy.clear for copy in mine),
    }


def resident() -> float:
    """Return the memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def timed(forget: Dataset[Any], retain: Dataset[Any]) -> tuple[Duplicates, dict[str, float]]:
    """Search, with seconds and the memory that was needed on top of the data."""
    before = resident()
    wall, cpu = time.perf_counter(), time.process_time()
    found = find_duplicates(forget, {"retain": retain})
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return found, seconds | {"mebibytes": max(0.0, peak - before)}


def cifar(known: Path | None) -> dict[str, Any]:
    training, test = load_images(DATA, "train"), load_images(DATA, "test")
    find_duplicates(Subset(training, range(64)), {"retain": Subset(training, range(64, 256))})  # warm-up
    order = np.random.default_rng(0).permutation(len(training))
    forget, retain = order[:FORGET].tolist(), order[FORGET:].tolist()
    found, cost = timed(Subset(training, forget), Subset(training, retain))
    others = np.random.default_rng(1).permutation(len(test)).tolist()
    upside_down = changed(test, others, lambda x: x.flip(2))  # no photograph of CIFAR-10 stands on its head
    plants = {name: changed(training, forget[:COPIES], change) for name, change in CHANGES.items()}
    more = find_duplicates(
        Subset(training, forget), {**plants, "holdout": test, "upside down": upside_down}, limits=found.limits
    )
    result: dict[str, Any] = {
        "cost": cost,
        "limits": {"clear": found.limits["pixels"].clear, "possible": found.limits["pixels"].possible},
        "retain": alarms(found, "retain"),
        "holdout": alarms(more, "holdout"),
        "upside_down": alarms(more, "upside down"),
        "recall": {name: recall(more, name, COPIES) for name in CHANGES},
    }
    if known is not None:
        result["known"] = pairs(training, test, known)
    if MODEL.exists():
        result["features"] = by_features(training)
    return result


def pairs(training: Examples, test: Examples, known: Path) -> dict[str, Any]:
    """Search the training images for copies of the test images, and compare with pairs that people judged."""
    found = find_duplicates(test, {"training": training})
    clear = {copy.index: copy.forget for copy in found.clear}
    any_of_them = {copy.index: copy.forget for copy in found.copies}
    with known.open(encoding="utf-8") as file:
        rows = [(int(r["test"]), int(r["train"]), int(r["judgment"])) for r in csv.DictReader(file)]
    result: dict[str, Any] = {"test_images_with_clear_copy": len(set(clear.values()))}
    result["test_images_with_clear_or_possible_copy"] = len(set(any_of_them.values()))
    for judgment, name in ((1, "same_photograph"), (2, "similar")):
        mine = [(a, b) for a, b, j in rows if j == judgment]
        result[name] = {
            "pairs": len(mine),
            "clear": sum(clear.get(b) == a for a, b in mine) / len(mine),
            "clear_or_possible": sum(any_of_them.get(b) == a for a, b in mine) / len(mine),
        }
    return result


def by_features(training: Examples) -> dict[str, Any]:
    """Search by features alone, those of a model that was trained on the first 5,000 images without augmentation."""
    from safetensors.torch import load_file

    from benchmarks.cifar_quality import network

    model = network().eval()
    model.load_state_dict(load_file(MODEL))
    body = nn.Sequential(*list(model.children())[:-1])
    forget, retain = list(range(500)), list(range(500, 5000))
    parts: dict[str, Dataset[Any]] = {n: changed(training, forget[:200], c) for n, c in CHANGES.items()}
    search = {"near": ("features",), "features": body}
    found = find_duplicates(Subset(training, forget), {"retain": Subset(training, retain)}, **search)  # type: ignore[arg-type]
    more = find_duplicates(Subset(training, forget), parts, limits=found.limits, **search)  # type: ignore[arg-type]
    return {
        "limit": found.limits["features"].possible,
        "retain": alarms(found, "retain"),
        "recall": {name: recall(more, name, 200)["clear_or_possible"] for name in CHANGES},
    }


def digits() -> dict[str, Any]:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data)).tolist()
    forget, retain = order[:180], order[180:]
    found = find_duplicates(Subset(data, forget), {"retain": Subset(data, retain)})
    chosen = ("darker by 0.15", "contrast x 0.7", "noise 0.02", "noise 0.05", "shifted by 1")
    plants = {name: Examples(CHANGES[name](data.images[forget]), data.labels[forget]) for name in chosen}
    more = find_duplicates(Subset(data, forget), plants, limits=found.limits)
    return {
        "limits": {"clear": found.limits["pixels"].clear, "possible": found.limits["pixels"].possible},
        "retain": alarms(found, "retain"),
        "recall": {name: recall(more, name, len(forget)) for name in chosen},
    }


def show(result: Mapping[str, Any]) -> None:
    console, images = Console(), result["cifar"]
    table = Table("copies of 500 of 5,000 images", "clear, %", "clear or possible, %", "features, %")
    for name, row in images["recall"].items():
        features = images.get("features", {}).get("recall", {}).get(name)
        seen = "" if features is None else f"{100 * features:.0f}"
        table.add_row(name, f"{100 * row['clear']:.1f}", f"{100 * row['clear_or_possible']:.1f}", seen)
    console.print(table)
    for name in ("limits", "cost", "retain", "holdout", "upside_down", "known", "features"):
        if name in images:
            console.print(f"{name}: ", {k: v for k, v in images[name].items() if k != "recall"})
    console.print("digits: ", result["digits"])
    console.print(where(result["environment"]))


def failures(images: Mapping[str, Any]) -> list[str]:
    """Return what the claim says and is not so."""
    low = [n for n, row in images["recall"].items() if n not in BEYOND and row["clear"] < 0.9]
    wrong = images["upside_down"]
    found = [f"recall of {name}" for name in low]
    found += ["false alarms"] if wrong["clear"] > wrong["examples"] / 1000 else []
    found += ["processor time"] if images["cost"]["cpu_seconds"] > MARK_CPU_SECONDS else []
    return found + (["memory"] if images["cost"]["mebibytes"] > MARK_MEBIBYTES else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=Path, help="pairs that people judged, as CSV")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not DATA.exists():
        parser.exit(2, "duplicates: needs ../shared/data/cifar10 beside the checkout, which is missing.\n")
    torch.set_num_threads(options.threads)
    result = {"cifar": cifar(options.known), "digits": digits(), "environment": environment()}
    show(result)
    missed = failures(result["cifar"])
    print("The claim holds." if not missed else f"The claim does not hold: {', '.join(missed)}.")
    if options.out:
        save(options.out, **result)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
