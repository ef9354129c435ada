"""Peak memory of a request's run, against plain fine-tuning of the same model.

Claim: a run with MUNBa, checkpoints, scores, page and record takes at most 1.2 times the memory of plain fine-tuning
       (SGD with momentum on retain batches as large as both players' together) plus one copy of the gradient.
Run:   python -m benchmarks.request_memory --out benchmarks/results/request_memory.json

Each is a process of its own, in which model and data are loaded first. What counts is by how much its resident memory
then grows at most: above what it is with the model before anything is trained. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

import amnesty
from amnesty.data import Examples
from amnesty.requests.checking import read_request
from amnesty.requests.preparing import Prepared, prepare
from amnesty.requests.running import run
from amnesty.weights import save_weights
from benchmarks._common import environment, save, where
from benchmarks._models import ResNet

MARK = 1.2
SIZES = ("small", "large")
STEPS, FORGET, RETAIN = 41, 32, 96
MEBIBYTE = 2**20
LATE = ("matplotlib.figure", "matplotlib.backends.backend_svg", "pyarrow.parquet", "jinja2")


def network(size: str) -> nn.Module:
    """The network before it is trained; named by the request.

    The small one is convolutional: activations are most of its memory. The large one is dense: its weights are.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if size == "small":
            return ResNet()
        dense = [nn.Linear(3072, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10)]
        return nn.Sequential(nn.Flatten(), *dense)


def images(seed: int, count: int = 640) -> Examples:
    """Noise around one image for each of ten classes; named by the request."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    centres = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(99))
    return Examples((centres[labels] + 0.1 * torch.randn(count, 3, 32, 32, generator=draw)).clamp(0, 1), labels)


def request(folder: Path, size: str) -> Path:
    """Train a model and write a request to make it forget."""
    model = amnesty.train(network(size), images(1), amnesty.Recipe(epochs=4, batch_size=32, lr=0.05))
    save_weights(folder / f"{size}.safetensors", model)
    here = "benchmarks.request_memory"
    path = folder / f"{size}.yaml"
    method = {"name": "munba", "lr": 1e-4, "epochs": 1, "at_least": STEPS, "rounds": 1}
    sources = {
        part: {"import": f"{here}:images", "options": {"seed": seed}}
        for part, seed in (("training", 1), ("holdout", 2))
    }
    content = {
        "model": {"import": f"{here}:network", "options": {"size": size}, "weights": f"{size}.safetensors"},
        "data": sources,
        "forget": {"fraction": 0.1},
        "method": method | {"batch_size": RETAIN, "forget_batch_size": FORGET},
        "duplicates": {"action": "keep", "near": ["exact"]},
        "checkpoint": {"steps": 20},
        "device": "cpu",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def fine_tune(prepared: Prepared) -> None:
    """Train as one would without this library: the model itself, one loss, momentum."""
    model, retain = prepared.task.model.train(), prepared.parts["retain"]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        chosen = torch.randint(len(retain), (FORGET + RETAIN,), generator=order).tolist()
        batch = [retain[i] for i in chosen]
        optimizer.zero_grad()
        inputs, labels = torch.stack([x for x, _ in batch]), torch.tensor([int(y) for _, y in batch])
        cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def measured(kind: str, path: Path) -> dict[str, float]:
    """Return the memory before and at most during the work, in MiB."""
    for name in LATE:
        importlib.import_module(name)
    torch.set_num_threads(1)
    prepared = prepare(read_request(path, out=path.with_name(f"{path.stem}-{kind}")))
    gradient = sum(p.numel() * p.element_size() for p in prepared.task.model.parameters() if p.requires_grad)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory("VmRSS")
    if kind == "request":
        run(prepared)
    else:
        fine_tune(prepared)
    return {"before": before, "peak": _memory("VmHWM"), "gradient": gradient / MEBIBYTE}


def _memory(which: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def in_a_process(kind: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.request_memory", "--measure", kind, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(folder: Path, size: str) -> dict[str, Any]:
    path = request(folder, size)
    found = {kind: in_a_process(kind, path) for kind in ("plain", "request")}
    grown = {kind: one["peak"] - one["before"] for kind, one in found.items()}
    gradient = found["plain"]["gradient"]
    parameters = sum(p.numel() for p in network(size).parameters())
    return {
        "parameters": parameters,
        "gradient": gradient,
        **{kind: {**one, "grown": grown[kind]} for kind, one in found.items()},
        "ratio": grown["request"] / (grown["plain"] + gradient),
        "ratio_of_peaks": found["request"]["peak"] / (found["plain"]["peak"] + gradient),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "REQUEST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure[0], Path(options.measure[1]))))
        return
    ran = environment()
    with tempfile.TemporaryDirectory() as folder:
        found = {size: compared(Path(folder), size) for size in SIZES}
    table = Table("MiB", "parameters", "plain + gradient", "request", "ratio", "of whole peaks", title=where(ran))
    for size, one in found.items():
        limit = one["plain"]["grown"] + one["gradient"]
        table.add_row(
            size,
            f"{one['parameters'] / 1e6:.1f} M",
            f"{limit:.0f}",
            f"{one['request']['grown']:.0f}",
            f"{one['ratio']:.2f}",
            f"{one['ratio_of_peaks']:.2f}",
        )
    Console().print(table)
    if options.out:
        save(options.out, mark=MARK, environment=ran, unit="MiB", found=found)


if __name__ == "__main__":
    main()
