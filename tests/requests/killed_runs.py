"""Kills whole runs before chosen operations on files and lets others go on; a process of its own, for it forks.

Argument: a folder. The command itself is run, so that all that stands in the folder is what a user would find.
"""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import torch

from amnesty.cli import main
from amnesty.requests.verifying import verify
from tests.requests.whole_runs import asked, read, result

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
MOMENTS = {  # a word -> before which operation, by event and end of the path; the first one unless told otherwise
    "request": ("os.rename", "/request.yaml"),
    "first checkpoint": ("os.rename", "/checkpoint/step-00000003"),
    "inside a checkpoint": ("open", "/tensors-00000.safetensors", 3),
    "weights": ("os.rename", "/model.safetensors"),
    "answers": ("os.rename", "/answers.parquet"),
    "record": ("os.rename", "/audit.json"),
    "after the record": ("os.remove", "/checkpoint/started.json"),
    "clearing": ("os.rmdir", "/checkpoint"),
}


def forked(work):
    """Run ``work`` in a child; return how it ended."""
    child = os.fork()
    if not child:
        work()
        os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(request, out, resume, moment=None):
    """Run the command, and die before a moment; with all operations told to a file where there is none."""
    seen = []

    def watch(event, arguments):
        if event not in OPERATIONS or not arguments:
            return
        paths = [str(one) for one in arguments[:2] if str(one).startswith(str(out))]
        if paths:
            seen.append((event, paths[-1]))
            if moment and is_it(seen, moment):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    sys.argv = ["amnesty", "unlearn", str(request), "--out", str(out)] + ["--resume"] * resume
    try:
        main()
    except SystemExit as error:
        os._exit(error.code or 0)


def is_it(seen, moment):
    event, end, *count = moment
    last = seen[-1]
    hits = sum(one[0] == event and one[1].endswith(end) for one in seen)
    return last[0] == event and last[1].endswith(end) and hits == (count or [1])[0]


def main_process(folder):
    torch.set_num_threads(1)
    request, whole = asked(folder), folder / "whole"
    assert forked(lambda: command(request, whole, False)) == 0
    told = {}
    for word, moment in MOMENTS.items():
        out = folder / word.replace(" ", "-")
        killed = forked(lambda out=out, moment=moment: command(request, out, False, moment))
        left = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
        resumed = forked(lambda out=out: command(request, out, True))
        told[word] = {
            "killed": killed == -signal.SIGKILL,
            "left": left,
            "resumed": resumed,
            "same": resumed == 0 and result(out) == result(whole),
            "files": sorted(path.name for path in out.iterdir()),
            "verified": verify(out).problems,
            "sittings": read(out, "audit.json")["time"]["sittings"],
        }
    print(json.dumps(told))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main_process(Path(sys.argv[1]))
