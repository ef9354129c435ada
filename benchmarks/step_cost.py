"""Cost of one bargaining step, in plain SGD steps on the sum of the same two losses.

Claim: at most 1.05 times the plain step's time, and no more memory than the plain step plus one gradient. With a
       lookahead player at most 2.4 times (exact), 1.7 times (finite differences) and 1.05 times (first order).
Run:   python -m benchmarks.step_cost --out benchmarks/results/step_cost.json
       python -m benchmarks.step_cost --device cuda --dtype bfloat16 --compile
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch._functorch.config
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from amnesty.bargaining import Bargain, Lookahead, PublishedNash, Sum
from benchmarks._common import environment, interleaved, save, spread, summary, where
from benchmarks._models import ResNet

TIME_MARK = 1.05
LOOKAHEAD_MARKS = {"lookahead exact": 2.4, "lookahead finite-difference": 1.7, "lookahead none": 1.05}
INNER_STEP = 0.01
MEBIBYTE = 2**20
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Subject:
    """A network, its optimiser and a batch for each of two players."""

    def __init__(self, options: argparse.Namespace, activation: type[nn.Module] = nn.ReLU) -> None:
        torch.manual_seed(0)
        self.options, self.device = options, torch.device(options.device)
        widths = (options.width, 2 * options.width, 4 * options.width)
        self.network = ResNet(widths, activation=activation).to(self.device)
        self.parameters = list(self.network.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01, momentum=0.9)
        self.batches = {name: self._batch(options.batch) for name in ("forget", "retain")}
        self.model: nn.Module = self.network
        if options.compile:
            self.model = torch.compile(self.network)  # type: ignore[assignment]

    def _batch(self, size: int) -> tuple[Tensor, Tensor]:
        images = torch.randn(size, 3, 32, 32, device=self.device)
        return images, torch.randint(10, (size,), device=self.device)

    def loss(self, name: str, model: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the named player's loss on its batch, by another model if one is given."""
        images, labels = self.batches[name]
        half = self.options.dtype == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return cross_entropy((model or self.model)(images), labels)


def plain(options: argparse.Namespace, activation: type[nn.Module] = nn.ReLU) -> Callable[[], None]:
    """The joint step: both graphs, one backward pass of the sum."""
    subject = Subject(options, activation)

    def step() -> None:
        subject.optimizer.zero_grad()
        (subject.loss("forget") + subject.loss("retain")).backward()  # type: ignore[no-untyped-call]
        subject.optimizer.step()

    return step


def bargain(options: argparse.Namespace) -> Callable[[], None]:
    """Ours: one player after the other."""
    subject = Subject(options)
    players = Bargain(subject.parameters)

    def step() -> None:
        subject.optimizer.zero_grad()
        players.backward(forget=lambda: subject.loss("forget"), retain=lambda: subject.loss("retain"))
        subject.optimizer.step()

    return step


def published(options: argparse.Namespace) -> Callable[[], None]:
    """As published: flattened gradients of both graphs, then a third backward pass of the weighted losses."""
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


def lookahead(
    options: argparse.Namespace, curvature: str, activation: type[nn.Module] = nn.ReLU
) -> Callable[[], None]:
    """LUR, ours: the forgetting player looks past the retaining player's step."""
    subject = Subject(options, activation)
    look = Lookahead(INNER_STEP, curvature=curvature)  # type: ignore[arg-type]
    players = Bargain(subject.network, Sum(), lookahead={"forget": look})

    def step() -> None:
        subject.optimizer.zero_grad()
        players.backward(forget=lambda: subject.loss("forget"), retain=lambda: subject.loss("retain"))
        subject.optimizer.step()

    return step


def naive(options: argparse.Namespace) -> Callable[[], None]:
    """LUR, the plain way: one differentiable composition, and a backward pass through all of it."""
    subject = Subject(options)
    named = dict(subject.network.named_parameters())

    def step() -> None:
        subject.optimizer.zero_grad()
        retain = subject.loss("retain")
        gradient = torch.autograd.grad(retain, subject.parameters, create_graph=True)
        moved = {k: p - INNER_STEP * g for (k, p), g in zip(named.items(), gradient, strict=True)}
        buffers = {k: b.clone() for k, b in subject.network.named_buffers()}
        forget = subject.loss("forget", lambda x: torch.func.functional_call(subject.network, moved | buffers, (x,)))
        (forget + retain).backward()  # type: ignore[no-untyped-call]
        subject.optimizer.step()

    return step


VARIANTS: dict[str, Callable[[argparse.Namespace], Callable[[], None]]] = {
    "plain": plain,
    "bargain": bargain,
    "published": published,
    "lookahead exact": lambda options: lookahead(options, "exact"),
    "lookahead naive": naive,
    "lookahead none": lambda options: lookahead(options, "none"),
    "plain smooth": lambda options: plain(options, nn.SiLU),
    "lookahead finite-difference": lambda options: lookahead(options, "finite-difference", nn.SiLU),
}
UNCOMPILED = {"lookahead exact", "lookahead naive"}  # compiled code has no second derivative


def variants(options: argparse.Namespace) -> list[str]:
    """Return the names of the variants that can run."""
    return [name for name in VARIANTS if not (options.compile and name in UNCOMPILED)]


def base(name: str) -> str:
    """Return the plain step that a variant is compared with: that of its own network."""
    return "plain smooth" if name in {"plain smooth", "lookahead finite-difference"} else "plain"


def peak_bytes(options: argparse.Namespace) -> int:
    """Run one variant and return the most memory it held: of the device, or of this whole process."""
    step = VARIANTS[options.only_memory](options)
    for _ in range(3):
        step()
    if options.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory(options: argparse.Namespace) -> dict[str, int]:
    """Return each variant's `peak_bytes`, measured in a fresh process each."""
    # Asked before this process holds anything: a child's peak starts from its parent's.
    given = [
        x for k in ("batch", "width", "device", "dtype", "threads") for x in (f"--{k}", str(getattr(options, k)))
    ]
    given += ["--compile"] if options.compile else []
    command = [sys.executable, "-m", "benchmarks.step_cost", *given, "--only-memory"]
    found = {}
    for name in variants(options):
        done = subprocess.run([*command, name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"The memory of {name!r} could not be measured:\n{done.stderr}")
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128, help="examples of each player")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: autocast")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: this process's own time, for a CPU that others use too"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only-memory", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.compile and options.only_memory in {None, "published"}:
        # A compiled backward pass overwrites what was saved for it, and the published step asks it to run again.
        # The variants of one process share compiled code, so that all must do without.
        torch._functorch.config.donated_buffer = False
    if options.only_memory:
        print(peak_bytes(options))
        return
    peaks = memory(options)
    found_at = environment(options.device)
    gradient = sum(4 * p.numel() for p in ResNet((options.width, 2 * options.width, 4 * options.width)).parameters())
    steps = {name: VARIANTS[name](options) for name in variants(options)}
    seconds = interleaved(steps, options.repeats, options.warm_up, options.device, CLOCKS[options.clock])
    # In pairs, so that what slows the machine for a while cancels.
    ratios = {
        name: summary([own / plain for own, plain in zip(own_times, seconds[base(name)], strict=True)])
        for name, own_times in seconds.items()
    }

    table = Table("step", "seconds", "in plain steps", "peak MiB", "beyond plain, MiB")
    for name in steps:
        beyond = (peaks[name] - peaks[base(name)]) / MEBIBYTE
        times = spread(summary(seconds[name]), 4)
        table.add_row(name, times, spread(ratios[name], 3), f"{peaks[name] / MEBIBYTE:.0f}", f"{beyond:+.0f}")
    Console(width=120).print(table)
    beyond = peaks["bargain"] - peaks["plain"]
    print(
        f"A bargaining step costs {spread(ratios['bargain'], 3)} plain steps; mark {TIME_MARK}: "
        f"{_verdict(ratios['bargain']['median'] <= TIME_MARK)}. It holds {beyond / MEBIBYTE:+.1f} MiB beyond "
        f"the plain step; mark one gradient, {gradient / MEBIBYTE:.1f} MiB: {_verdict(beyond <= gradient)}. "
        f"{options.repeats} pairs, batch {options.batch} + {options.batch}, {options.dtype}"
        f"{', compiled' if options.compile else ''}; {where(found_at)}."
    )
    for name, mark in LOOKAHEAD_MARKS.items():
        if name in ratios:
            found = ratios[name]
            print(f"{name}: {spread(found, 3)} plain steps; mark {mark}: {_verdict(found['median'] <= mark)}.")
    if options.out:
        settings = {
            k: getattr(options, k) for k in ("batch", "width", "repeats", "dtype", "compile", "device", "clock")
        }
        save(
            options.out,
            settings=settings,
            ratios=ratios,
            seconds=seconds,
            peak_bytes=peaks,
            gradient_bytes=gradient,
            marks={"ratio": TIME_MARK, "bytes_beyond_plain": gradient, "lookahead_ratios": LOOKAHEAD_MARKS},
            environment=found_at,
        )


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    main()
