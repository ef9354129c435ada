"""What every benchmark needs: fair timing, a summary, and a record of where it ran."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from amnesty.files import write_json

Step = Callable[[], object]
Clock = Callable[[], float]
Name = TypeVar("Name", bound=Hashable)


def interleaved(
    steps: Mapping[Name, Step],
    repeats: int,
    warm_up: int,
    device: torch.device | str = "cpu",
    clock: Clock = time.perf_counter,
) -> dict[Name, list[float]]:
    """Return the seconds of each step, measured in turns, so that drift hits all alike."""
    for _ in range(warm_up):
        for step in steps.values():
            step()
    seconds: dict[Name, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            seconds[name].append(timed(step, torch.device(device), clock))
    return seconds


def timed(step: Step, device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Return the seconds of one step, the work that it leaves on the device included."""
    synchronize(device)
    start = clock()
    step()
    synchronize(device)
    return clock() - start


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize(device)


def summary(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "quartile_1": low, "quartile_3": high, "repeats": len(values)}


def spread(found: Mapping[str, float], digits: int = 2) -> str:
    """Write a summary as ``median (quartiles a-b)``."""
    median, low, high = (f"{found[k]:.{digits}f}" for k in ("median", "quartile_1", "quartile_3"))
    return f"{median} (quartiles {low}-{high})"


def environment(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Describe what ran where; neither the machine's name nor a path is in it."""
    device = torch.device(device)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def where(found: Mapping[str, Any]) -> str:
    """Write an environment in one line, for the claim."""
    name = found["cpu"] if found["device"] == "cpu" else found["device"]
    commit = (found["commit"] or "none")[:8] + ("+" if found["dirty"] else "")
    return (
        f"{name}, {found['threads']} CPU thread(s), load {found['load_average']}, "
        f"torch {found['torch']}, commit {commit}"
    )


def save(path: Path, **content: Any) -> None:
    """Write ``content`` as JSON; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
