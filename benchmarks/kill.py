"""Runs that are killed at any moment go on to the same bits.

Claim: 20 of 20 runs that are killed (SIGKILL) at a random moment, at least half of them inside the writing of a
       checkpoint, end in the weights, buffers and history of the run that nobody killed, bit by bit; and so does
       one run that is killed over and over.

A CNN with batch norm and dropout, trained on digits, forgets a tenth of them by `MUNBa`, with momentum, in up to four
rounds; every step is saved. Each run is a process of its own, killed from outside at a moment drawn at random; for
every second one, that is the moment from which on the next checkpoint that is being written is waited for.

Run: python -m benchmarks.kill [--kills 20] [--seed 0] [--out benchmarks/results/kill.json]  (a minute; needs `fork`)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from amnesty import Classification, Recipe, train, unlearn
from amnesty.data import Examples, Fraction, load_digits, split
from amnesty.methods import MUNBa
from amnesty.training import Checkpoints
from benchmarks._common import environment, save, where

METHOD = MUNBa(epochs=1, at_least=16)


def network() -> nn.Module:
    blocks = [
        (nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o in ((1, 16), (16, 32))
    ]
    return nn.Sequential(*blocks[0], nn.MaxPool2d(2), *blocks[1], nn.Dropout(0.2), nn.Flatten(), nn.Linear(512, 10))


def request() -> Classification:
    data = load_digits()
    training, unseen = (
        Examples(data.images[i:j], data.labels[i:j], data.class_names) for i, j in ((0, 1500), (1500, 1797))
    )
    parts = split(training, Fraction(0.1)).parts(training)
    original = train(network(), training, Recipe(epochs=5), seed=0)
    return Classification(original, forget=parts["forget"], retain=parts["retain"], validation=unseen)


def run(task: Classification, folder: Path) -> None:
    """Go on with the run in ``folder``, and leave there what it ends in."""
    notes: list[str] = []
    saved = Checkpoints(folder / "checkpoint", steps=1, minutes=None, resume=True, tell=notes.append)
    outcome = unlearn(task, METHOD, checkpoints=saved)
    save_file(outcome.model.state_dict(), folder / "model.safetensors")
    facts = {"history": outcome.history, "notes": notes, "resumed_after": outcome.resumed_after}
    (folder / "outcome.json").write_text(json.dumps(facts))


@contextmanager
def started(work: Callable[[], None]) -> Iterator[int]:
    """Start a process that does ``work``; it is gone afterwards."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        yield child
    finally:
        if not ended(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def to_the_end(task: Classification, folder: Path) -> float:
    """Let a run go on to its end; return its seconds."""
    begun = time.perf_counter()
    with started(lambda: run(task, folder)) as child:
        how = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        if how is None or how.si_status:
            sys.exit("A run failed.")
    return time.perf_counter() - begun


def kill(task: Classification, folder: Path, moment: float, aimed: bool) -> dict[str, Any] | None:
    """Kill a run so many seconds after its start; return what it was at, ``None`` if it had ended by then."""
    with started(lambda: run(task, folder)) as child:
        time.sleep(moment)
        while aimed and not half_written(folder) and not ended(child):
            pass
        if ended(child):
            return None
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    names = sorted(path.name for path in (folder / "checkpoint").glob("*-0*")) if folder.exists() else []
    return {"seconds": moment, "aimed": aimed, "inside_writing": bool(half_written(folder)), "saved": names[-1:]}


def half_written(folder: Path) -> list[Path]:
    return list((folder / "checkpoint").glob(".partial-*"))


def compared(folder: Path, expected: Path) -> dict[str, Any]:
    mine, its = (json.loads((path / "outcome.json").read_text()) for path in (folder, expected))
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, expected)]
    return {
        "same_weights": weights[0] == weights[1],
        "same_history": mine["history"] == its["history"],
        "nothing_left_behind": not half_written(folder),
        "notes": mine["notes"],
        "resumed_after": mine["resumed_after"],
    }


def right(trial: dict[str, Any]) -> bool:
    return all(trial[key] for key in ("same_weights", "same_history", "nothing_left_behind")) and not trial["notes"]


def once_each(task: Classification, home: Path, kills: int, span: float, draw: random.Random) -> list[dict[str, Any]]:
    """Kill each of so many runs once, and let it go on."""
    trials: list[dict[str, Any]] = []
    while len(trials) < kills:
        folder = home / f"run-{len(trials)}"
        folder.mkdir(exist_ok=True)
        killed = kill(task, folder, draw.uniform(0, span), aimed=len(trials) % 2 == 1)
        if killed is None:
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            continue
        to_the_end(task, folder)
        trials.append(killed | compared(folder, home / "whole"))
        print(f"run {len(trials)}: {'the same' if right(trials[-1]) else 'ANOTHER'}", flush=True)
    return trials


def over_and_over(task: Classification, folder: Path, span: float, draw: random.Random) -> dict[str, Any]:
    """Kill one run again and again, until it has ended."""
    folder.mkdir()
    kills = 0
    while kill(task, folder, draw.uniform(0, span / 4), aimed=kills % 2 == 1) is not None:
        kills += 1
    return {"kills": kills, **compared(folder, folder.parent / "whole")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # no threads that a fork would lose
    task, draw = request(), random.Random(options.seed)
    task.check()
    with TemporaryDirectory() as place:
        home = Path(place)
        (home / "whole").mkdir()
        span = to_the_end(task, home / "whole")
        trials = once_each(task, home, options.kills, span, draw)
        chain = over_and_over(task, home / "again", span, draw)
        steps = len(json.loads((home / "whole" / "outcome.json").read_text())["history"])
    good, inside, ran = sum(map(right, trials)), sum(trial["inside_writing"] for trial in trials), environment()
    print(f"\n{good} of {options.kills} end in the same bits ({inside} were killed inside writing or removing).")
    print(f"Killed {chain['kills']} times, one run ends in {'the same' if right(chain) else 'OTHER'} bits.")
    print(f"{steps} lines of history, {span:.1f} s without a kill. {where(ran)}")
    if options.out:
        save(options.out, trials=trials, over_and_over=chain, lines=steps, seconds=span, environment=ran)
    sys.exit(good < options.kills or not right(chain))


if __name__ == "__main__":
    main()
