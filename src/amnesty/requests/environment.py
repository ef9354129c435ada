"""What ran where: versions of the code and of the libraries, and the hardware; never a machine's name."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

PACKAGE = Path(__file__).resolve().parent.parent


def versions() -> dict[str, Any]:
    """Return the versions that a result rests on.

    ``commit`` is that of the checkout which the package lies in, and ``changed`` says whether its files differ from
    it; both are ``None`` where it was installed as a package.
    """
    commit = _commit()
    return {
        "amnesty": version("amnesty"),
        "commit": commit,
        "changed": None if commit is None else bool(_git("status", "--porcelain", "--", str(PACKAGE))),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "safetensors": version("safetensors"),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def hardware(device: torch.device | str) -> dict[str, Any]:
    """Return what computed: the kind of device, its name, and the CPU threads that PyTorch uses."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"type": device.type, "name": name, "threads": torch.get_num_threads()}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    # An environment may lie in somebody else's checkout: only one that tracks this very file is ours.
    tracked = _git("ls-files", "--error-unmatch", "--", str(PACKAGE / "errors.py"))
    return _git("rev-parse", "HEAD") if tracked else None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
