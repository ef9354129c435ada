"""Relative error of a lookahead player's Hessian term by finite differences, against automatic differentiation.

Claim: below 0.01 at the default displacement where the network is smooth, in float32 and float64; with ReLU in
       float32, no displacement brings it below 0.1.
Run:   python -m benchmarks.lookahead --out benchmarks/results/lookahead.json
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from amnesty.bargaining import Agreement, Bargain, Lookahead, Sum
from benchmarks._common import environment, save, where
from benchmarks._models import ResNet

ACTIVATIONS = {"silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh, "relu": nn.ReLU}
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
STEP = 0.01
MARKS = {"smooth_default": 0.01, "relu_float32_best": 0.1}


class Subject:
    """A small residual network, trained a little, and a batch for each of two players."""

    def __init__(self, activation: str, precision: str, options: argparse.Namespace, seed: int) -> None:
        torch.manual_seed(seed)
        widths = (options.width, 2 * options.width, 4 * options.width)
        network = ResNet(widths, blocks=1, stem_stride=2, activation=ACTIVATIONS[activation])
        centres = torch.randn(10, 3, 32, 32)
        self.batches = {}
        for name in ("forget", "retain"):
            labels = torch.randint(10, (options.batch,))
            self.batches[name] = ((centres[labels] + 2 * torch.randn(options.batch, 3, 32, 32)).double(), labels)
        # Trained in float64 whatever the precision asked for, so that the same point is compared.
        self.model: nn.Module = network.double()
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(options.steps):
            optimizer.zero_grad()
            self.loss("retain").backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        optimizer.zero_grad()
        dtype = PRECISIONS[precision]
        self.model.to(dtype)
        self.batches = {name: (images.to(dtype), labels) for name, (images, labels) in self.batches.items()}

    def loss(self, name: str) -> Tensor:
        """Return the cross-entropy of the named player's batch."""
        images, labels = self.batches[name]
        return cross_entropy(self.model(images), labels)

    def gradient(self, look: Lookahead) -> tuple[list[Tensor], Agreement]:
        """Return the forgetting player's gradient, which ascends on its batch."""
        bargain = Bargain(self.model, Sum((1.0, 0.0)), lookahead={"forget": look})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            agreement = bargain.backward(forget=lambda: -self.loss("forget"), retain=lambda: self.loss("retain"))
        found = []
        for p in self.model.parameters():
            assert p.grad is not None
            found.append(p.grad.double())
            p.grad = None
        return found, agreement

    def errors(self, differences: list[float | None]) -> list[tuple[float, float]]:
        """Return the relative error of the Hessian term, and what the player estimates it to be."""
        plain, _ = self.gradient(Lookahead(STEP, curvature="none"))
        exact = [a - b for a, b in zip(plain, self.gradient(Lookahead(STEP))[0], strict=True)]
        found = []
        for difference in differences:
            look = Lookahead(STEP, curvature="finite-difference", kinks="warn", difference=difference)
            gradient, agreement = self.gradient(look)
            wrong = [a - b - c for a, b, c in zip(plain, gradient, exact, strict=True)]
            estimate = agreement.curvature["forget"].error
            assert estimate is not None
            found.append((_length(wrong) / _length(exact), estimate.item()))
        return found


def _length(tensors: list[Tensor]) -> float:
    return sum(t.square().sum().item() for t in tensors) ** 0.5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="examples of each player")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30, help="of training before")
    parser.add_argument("--seeds", type=int, default=3, help="networks; medians are shown")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    differences: list[float | None] = [None, *(10.0**k for k in range(-8, 1))]
    names = ["default", *(f"1e{k}" for k in range(-8, 1))]
    errors, estimates = {}, {}
    table = Table("network", *names)
    for precision in PRECISIONS:
        for activation in ACTIVATIONS:
            runs = [Subject(activation, precision, options, s).errors(differences) for s in range(options.seeds)]
            medians = [[statistics.median(run[k][i] for run in runs) for k in range(len(names))] for i in (0, 1)]
            name = f"{activation}_{precision}"
            errors[name], estimates[name] = (dict(zip(names, m, strict=True)) for m in medians)
            table.add_row(f"{activation}, {precision}", *(f"{m:.1e}" for m in medians[0]))
            table.add_row("    its estimate", *(f"{m:.1e}" for m in medians[1]))
    Console(width=150).print(table)
    smooth = max(found["default"] for name, found in errors.items() if "relu" not in name)
    kinked = min(errors["relu_float32"].values())
    found_at = environment()
    print(
        f"Smooth networks, default displacement: at most {smooth:.1e}; mark {MARKS['smooth_default']}: "
        f"{_verdict(smooth <= MARKS['smooth_default'])}. ReLU in float32, best displacement: {kinked:.2f}; "
        f"expected above {MARKS['relu_float32_best']}: {_verdict(kinked > MARKS['relu_float32_best'])}. "
        f"{where(found_at)}."
    )
    if options.out:
        settings = {k: getattr(options, k) for k in ("batch", "width", "steps", "seeds")} | {"step": STEP}
        save(options.out, settings=settings, errors=errors, estimates=estimates, marks=MARKS, environment=found_at)


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    main()
