"""Cost of unlearning a CLIP: of one bargaining step, and of an epoch with and without cached image features.

Claim: a step costs at most 1.1 times the plain step on the sum of the same two losses; where the image tower does not
       move, an epoch on cached features is at least 3 times faster than one that asks the tower again.

Random weights, 37 class names (those of the Oxford pets are as many), two templates. A step that would read the texts
once for both players is measured beside them: players come one after the other, so that ours reads them twice.

Run: python -m benchmarks.clip_cost [--out benchmarks/results/clip_cost.json]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy

import amnesty
from amnesty.bargaining import Bargain
from amnesty.data import Batches, Examples
from benchmarks._common import environment, interleaved, save, where
from tests import tiny_clip

CLASSES = 37
TEMPLATES = ("a photo of the digit {}", "the {}")
SIDE = 32
STEP_MARK, EPOCH_MARK = 1.1, 3.0
TOWERS = {"text_attention": True, "attention": False}
"""What moves, and whether image features are cached."""


def task_of(train: Any, cache: bool, images: int) -> amnesty.ZeroShot:
    names = [f"n{i}" for i in range(CLASSES)]
    words = tiny_clip.tokenizer((*tiny_clip.WORDS, *names))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = tiny_clip.config(len(words), text=128, image=192, layers=(4, 6), patch=4)
        config.vision_config.image_size = SIDE
        model = tiny_clip.CLIPModel(config).eval()
        pixels, labels = torch.randn(images, 3, SIDE, SIDE), torch.arange(images) % CLASSES
    data = Examples(pixels, labels, names)
    forget = [i for i in range(images) if labels[i] == 0]
    parts = {"forget": forget, "retain": sorted(set(range(images)) - set(forget))}
    given: dict[str, Any] = {name: torch.utils.data.Subset(data, rows) for name, rows in parts.items()}
    return amnesty.ZeroShot(model, (words, None), names, TEMPLATES, **given, train=train, cache=cache)


def steps(task: amnesty.ZeroShot, batch: int) -> dict[str, Callable[[], object]]:
    """Return the steps to compare, on the same two batches of the task's data."""
    data = {name: next(iter(Batches(task.parts[name], batch).iterate())) for name in ("forget", "retain")}
    model, moving = task.model, [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(moving, lr=0.0)
    players = Bargain(moving)

    def loss(name: str, texts: torch.Tensor | None = None) -> torch.Tensor:
        inputs, labels = data[name]
        if texts is None:
            return cross_entropy(model(inputs), labels)
        return cross_entropy(model.compare(model.image_features(inputs), texts), labels)

    def plain() -> None:
        optimizer.zero_grad()
        (loss("forget") + loss("retain")).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def once() -> None:
        optimizer.zero_grad()
        texts = model.class_features()
        (loss("forget", texts) + loss("retain", texts)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def bargain() -> None:
        optimizer.zero_grad()
        players.backward(forget=lambda: loss("forget"), retain=lambda: loss("retain"))
        optimizer.step()

    return {"plain": plain, "texts once": once, "bargain": bargain}


def epoch(task: amnesty.ZeroShot, batch: int) -> float:
    """Return the seconds of one pass of the retaining player over its part."""
    begun = time.perf_counter()
    for inputs, labels in Batches(task.parts["retain"], batch, seed=0).iterate():
        cross_entropy(task.model(inputs), labels).backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    table = Table("what moves", "bargain / plain", "bargain / texts once", title=where(environment()))
    for train, cache in TOWERS.items():
        seconds = interleaved(steps(task_of(train, cache, 256), options.batch), options.repeats, 2)
        ratios = {
            other: [a / b for a, b in zip(seconds["bargain"], seconds[other], strict=True)]
            for other in ("plain", "texts once")
        }
        result[train] = {"seconds": seconds, "ratio": {name: statistics.median(r) for name, r in ratios.items()}}
        table.add_row(train, *(f"{statistics.median(r):.2f}" for r in ratios.values()))
    cached, asked = (task_of("text_attention", cache, options.images) for cache in (True, False))
    begun = time.perf_counter()
    cached.check()
    first = time.perf_counter() - begun
    pairs = [(epoch(asked, options.batch), epoch(cached, options.batch)) for _ in range(options.epochs)]
    faster = statistics.median(a / b for a, b in pairs)
    result["epoch"] = {"pairs": pairs, "ratio": faster, "seconds to compute the features": first}
    console = Console()
    console.print(table)
    console.print(f"An epoch on cached features is {faster:.1f} times faster; to compute them took {first:.1f} s.")
    holds = max(result[train]["ratio"]["plain"] for train in TOWERS) <= STEP_MARK and faster >= EPOCH_MARK
    console.print("The claim holds." if holds else "The claim does not hold.")
    if options.out is not None:
        save(options.out, environment=environment(), **result)


if __name__ == "__main__":
    main()
