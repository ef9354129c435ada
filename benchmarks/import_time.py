"""Time of `import amnesty`, in times of `import torch`.

Claim: at most 1.3 times, each in a new process, the interpreter's own start included.
Run:   python -m benchmarks.import_time --out benchmarks/results/import_time.json

Both are measured in turns, so that whatever else goes on hits both alike; the time of the processor is told beside
that of the wall, since it suffers less from other work on the machine.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._common import environment, save, spread, summary, where

MARK = 1.3
PACKAGES = ("torch", "amnesty")


def imported(package: str) -> dict[str, float]:
    """Return the seconds of a process that imports a package, by the wall and of the processor."""
    before, start = _used(), time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {package}"], check=True)
    return {"wall": time.perf_counter() - start, "processor": _used() - before}


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def measured(pairs: int) -> dict[str, Any]:
    """Import both in turns, so many times, after a first time that warms up the disk."""
    found: dict[str, dict[str, list[float]]] = {p: {"wall": [], "processor": []} for p in PACKAGES}
    for turn in range(pairs + 1):
        for package in PACKAGES if turn % 2 else PACKAGES[::-1]:
            for clock, took in imported(package).items():
                if turn:
                    found[package][clock].append(took)
    ratios = {
        clock: summary([ours / its for ours, its in zip(found["amnesty"][clock], found["torch"][clock], strict=True)])
        for clock in ("wall", "processor")
    }
    seconds = {package: {clock: summary(values) for clock, values in one.items()} for package, one in found.items()}
    return {"seconds": seconds, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    ran, found = environment(), measured(options.pairs)
    table = Table("seconds", *PACKAGES, "ratio of pairs", title=where(ran))
    for clock, ratio in found["ratios"].items():
        table.add_row(clock, *(spread(found["seconds"][package][clock]) for package in PACKAGES), spread(ratio))
    Console().print(table)
    if options.out:
        save(options.out, mark=MARK, environment=ran, **found)


if __name__ == "__main__":
    main()
