"""Kills runs before every so many operations on files and lets others go on; a process of its own, for it forks.

Arguments: a folder, the first operation, and the number of operations from one kill to the next.
"""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import torch

from amnesty.training.states import model_hash
from tests.training.sittings import LONG, names, sitting, task, whole

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}


def forked(work):
    """Run ``work`` in a child; return how it ended."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(folder, last, found):
    """Go on with the run, and die before operation ``last`` on the folder's files."""
    count = [0]

    def watch(event, arguments):
        if event in OPERATIONS and arguments and str(arguments[0]).startswith(str(folder)):
            count[0] += 1
            if count[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    notes = []
    outcome = sitting(task, LONG, folder, checkpoints={"steps": 1, "tell": notes.append})
    text = {"hash": model_hash(outcome.model), "history": outcome.history, "notes": notes, "operations": count[0]}
    found.write_text(json.dumps({**text, "resumed": outcome.resumed_after}))


def main(folder, first, apart):
    torch.set_num_threads(1)
    expected, found = whole(task, LONG), folder / "found.json"
    want = {"hash": model_hash(expected.model), "history": expected.history, "notes": []}
    at, told = first, []
    while True:
        saved = folder / f"killed-{at}"
        ended = forked(lambda saved=saved, at=at: run(saved, at, found))
        if ended == 0:
            break  # there are not so many operations
        half = saved.is_dir() and any(name.startswith(".partial") for name in names(saved))
        assert forked(lambda saved=saved: run(saved, 0, found)) == 0
        got = json.loads(found.read_text())
        same = {key: got[key] for key in want} == want and not any(n.startswith(".partial") for n in names(saved))
        told.append({"at": at, "killed": ended == -signal.SIGKILL, "half": half, "same": same, **got})
        at += apart
    print(json.dumps([{k: v for k, v in one.items() if k not in ("history", "hash")} for one in told]))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
