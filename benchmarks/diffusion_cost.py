"""Cost of one bargaining step of an image generator, in plain steps on the sum of the same two losses.

Claim: at most 1.1 times the plain step's time, and no more memory than the plain step plus one gradient. The
       published step, which goes back a third time, costs more. Checkpointing and bfloat16 work.

A U-Net that reads texts (random weights), 16 x 16 pixels; the forgetting player compares with the frozen original,
the retaining player removes noise. Peak memory is that of a process of its own, less what it held before its steps.

Run: python -m benchmarks.diffusion_cost [--train full] [--out benchmarks/results/diffusion_cost.json]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from amnesty.bargaining import Bargain, PublishedNash
from amnesty.data import Batches, Examples
from amnesty.seeds import generator, seeded
from amnesty.tasks.diffusion import Concept, Diffusion
from benchmarks._common import environment, interleaved, save, spread, summary, where
from tests import tiny_clip

from diffusers import DDIMScheduler, UNet2DConditionModel  # isort: skip  # tests.vision comes first

TIME_MARK, MEBIBYTE, SIDE = 1.1, 2**20, 16
PROMPT = "a photo of the digit {}"


class Subject:
    """A task, its optimiser, and a batch of each player."""

    def __init__(self, options: argparse.Namespace, **how: Any) -> None:
        clip = tiny_clip.untrained(0)
        with seeded(0, torch.device("cpu")):
            unet = UNet2DConditionModel(
                sample_size=SIDE,
                in_channels=3,
                out_channels=3,
                block_out_channels=(options.width, 2 * options.width),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                norm_num_groups=8,
                attention_head_dim=16,
                cross_attention_dim=clip.config.text_config.hidden_size,
            )
            images = torch.rand(2 * options.batch, 3, SIDE, SIDE)
        parts = {"unet": unet, "scheduler": DDIMScheduler(1000), "text_encoder": clip.text_model}
        three, four, five = (PROMPT.format(word) for word in ("three", "four", "five"))
        one = torch.zeros(options.batch, dtype=torch.long)
        self.task = Diffusion(
            {**parts, "tokenizer": tiny_clip.tokenizer()},
            forget=Concept(three, four, Examples(images[: options.batch], one)),
            retain=Examples(images[options.batch :], one),
            captions={0: five},
            train=options.train,
            **how,
        )
        self.task.check()
        self.model = self.task.model.train()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0)
        self.roles = {"forget": self.task.wished("auto"), "retain": self.task.preserved()}
        self.batches = {
            name: next(iter(Batches(self.task.parts[name], options.batch).iterate())) for name in self.roles
        }
        self.random = generator(0, "cost")
        self.half = False

    def loss(self, name: str) -> Tensor:
        """Return a player's loss on its batch."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            return self.roles[name].loss(self.model, self.batches[name], self.random)


def plain(options: argparse.Namespace) -> Callable[[], None]:
    """The joint step: both graphs, one backward pass of the sum."""
    subject = Subject(options)

    def step() -> None:
        subject.optimizer.zero_grad()
        (subject.loss("forget") + subject.loss("retain")).backward()  # type: ignore[no-untyped-call]
        subject.optimizer.step()

    return step


def bargain(options: argparse.Namespace, half: bool = False, **how: Any) -> Callable[[], None]:
    """Ours: one player after the other."""
    subject = Subject(options, **how)
    subject.half = half
    players = Bargain(subject.parameters)

    def step() -> None:
        subject.optimizer.zero_grad()
        players.backward(forget=lambda: subject.loss("forget"), retain=lambda: subject.loss("retain"))
        subject.optimizer.step()

    return step


def published(options: argparse.Namespace) -> Callable[[], None]:
    """As published: gradients of both graphs, then a third backward pass of the weighted losses."""
    subject = Subject(options)
    rule = PublishedNash(max_norm=None)

    def step() -> None:
        subject.optimizer.zero_grad()
        losses = torch.stack([subject.loss("forget"), subject.loss("retain")])
        gradients = [torch.autograd.grad(x, subject.parameters, retain_graph=True) for x in losses]
        flat = torch.stack([torch.cat([g.flatten() for g in gradient]) for gradient in gradients])
        (rule(flat @ flat.T).to(losses) @ losses).backward()
        nn.utils.clip_grad_norm_(subject.parameters, 1.0)
        subject.optimizer.step()

    return step


VARIANTS: dict[str, Callable[[argparse.Namespace], Callable[[], None]]] = {
    "plain": plain,
    "bargain": bargain,
    "published": published,
    "bargain, checkpointed": lambda options: bargain(options, gradient_checkpointing=True),
    "bargain, bfloat16": lambda options: bargain(options, half=True),
}


def peak_bytes(options: argparse.Namespace) -> int:
    """Run one variant and return the most memory that its steps held beyond what was there before them."""
    step = VARIANTS[options.only_memory](options)
    before = _resident()
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def memory(options: argparse.Namespace) -> dict[str, int]:
    """Return each variant's `peak_bytes`, measured in a fresh process each."""
    given = [x for k in ("batch", "width", "train") for x in (f"--{k}", str(getattr(options, k)))]
    found = {}
    for name in VARIANTS:
        command = [sys.executable, "-m", "benchmarks.diffusion_cost", *given, "--only-memory", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"The memory of {name!r} could not be measured:\n{done.stderr}")
        found[name] = int(json.loads(done.stdout.splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16, help="images of each player")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--train", default="full")
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only-memory", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_memory:
        print(peak_bytes(options))
        return
    peaks = memory(options)
    steps = {name: make(options) for name, make in VARIANTS.items()}
    seconds = interleaved(steps, options.repeats, 2)
    ratios = {
        name: summary([own / base for own, base in zip(times, seconds["plain"], strict=True)])
        for name, times in seconds.items()
    }
    gradient = 4 * sum(p.numel() for p in Subject(options).parameters)
    table = Table("step", "in plain steps", "peak, MiB", "beyond plain, MiB", title=where(environment()))
    for name in VARIANTS:
        beyond = (peaks[name] - peaks["plain"]) / MEBIBYTE
        table.add_row(name, spread(ratios[name]), f"{peaks[name] / MEBIBYTE:.0f}", f"{beyond:+.0f}")
    console = Console()
    console.print(table)
    more = peaks["bargain"] - peaks["plain"]
    holds = ratios["bargain"]["median"] <= TIME_MARK and more <= gradient
    console.print(
        f"One gradient has {gradient / MEBIBYTE:.0f} MiB.", "The claim holds." if holds else "It does not hold."
    )
    if options.out is not None:
        settings = {key: getattr(options, key) for key in ("batch", "width", "train", "repeats")}
        found = {"ratios": ratios, "peak_bytes": peaks, "gradient_bytes": gradient}
        save(options.out, environment=environment(), settings=settings, **found)


if __name__ == "__main__":
    main()
