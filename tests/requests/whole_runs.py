"""Whole runs of requests, from a file to a folder: on 90 examples that a small network knows by heart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from amnesty.requests.checking import read_request
from amnesty.requests.digests import weight_files
from amnesty.requests.preparing import prepare
from amnesty.requests.running import Result
from amnesty.requests.running import run as run_prepared
from amnesty.weights import save_weights
from tests.requests import audited

QUICK = {"name": "munba", "lr": 0.02, "epochs": 1, "at_least": 8, "rounds": 1}
HERE = "tests.requests.audited"


def normed() -> nn.Module:
    """A network with batch norm and dropout: with buffers, and with random numbers of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, 3)
        )


def asked(home: Path, **changed: Any) -> Path:
    """Write a request and the weights that it names; sections given replace the usual ones, ``None`` leaves out."""
    weights = home / "before.safetensors"
    if not weights.exists():
        save_weights(weights, audited.original())
    content = {
        "model": {"import": f"{HERE}:network", "weights": "before.safetensors"},
        "data": {"training": {"import": f"{HERE}:training"}, "holdout": {"import": f"{HERE}:unseen"}},
        "forget": {"indices": list(range(12))},
        "method": QUICK,
        "checkpoint": {"steps": 3},
        **changed,
    }
    return written(home, content, str(changed.get("name", "request")))


def written(home: Path, content: Mapping[str, Any], name: str) -> Path:
    """Write a request; sections that are ``None`` are left out."""
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def run(path: Path, out: Path, **options: Any) -> Result:
    """Run the request in a file."""
    return run_prepared(prepare(read_request(path, out=out)), **options)


def stop_after(steps: int) -> dict[str, Any]:
    """Return options of `run` that stop it after so many steps."""
    made: list[int] = []
    return {"watch": lambda record, total: made.append(total), "stop": lambda: len(made) >= steps}


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()}


def read(folder: Path, name: str) -> Any:
    """A JSON file of a run."""
    return json.loads((folder / name).read_text())


def result(folder: Path) -> dict[str, Any]:
    """All of a run's result that must not depend on its sittings: weights, history, and scores without times."""
    scores = read(folder, "scores.json")
    for own in scores["methods"].values():
        own.pop("seconds", None)
    return {
        "weights": [path.read_bytes() for path in weight_files(folder)],
        "history": (folder / "history.jsonl").read_text(),
        "answers": path.read_bytes() if (path := folder / "answers.parquet").exists() else None,
        "forgotten": (folder / "forgotten.json").read_text(),
        "scores": scores,
    }
