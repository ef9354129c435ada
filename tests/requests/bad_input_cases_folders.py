"""Folders that a result cannot go to, earlier runs that cannot be built on, and folders that cannot be verified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from amnesty.requests.digests import canonical, text_hash
from tests.requests.bad_input_cases import IMAGES, Case, right, spoilt_weights, write

SLOW = right(method="method: {name: finetune, epochs: 9, lr: 0.001}", checkpoint="checkpoint: {steps: 1}")
"""The request of the run in ``unfinished``."""

AFTER = right(model="model: {run: finished}", data="")
RESUME = ("--out", "unfinished", "--resume")

_HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print('held'); sys.stdin.read()"
)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Let another process use the unfinished run meanwhile."""
    pytest.importorskip("fcntl")
    command = [sys.executable, "-c", _HOLD, str(folder / "unfinished" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield
        other.communicate()


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Let all disks be full meanwhile, but for a hundred bytes."""
    usage = namedtuple("usage", "total used free")
    with mock.patch.object(shutil, "disk_usage", return_value=usage(2**40, 2**40 - 100, 100)):
        yield


def removed(name: str) -> Callable[[Path], None]:
    """Return what takes a file away."""
    return lambda folder: (folder / name).unlink()


def more(name: str, text: str) -> Callable[[Path], None]:
    """Return what writes something at the end of a file."""

    def spoil(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return spoil


def flipped(name: str, position: int) -> Callable[[Path], None]:
    """Return what changes one bit of a file."""

    def spoil(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[position] ^= 1
        (folder / name).write_bytes(content)

    return spoil


def rewritten(**changed: Any) -> Callable[[Path], None]:
    """Return what writes audit.json as a whole, with other values."""

    def spoil(folder: Path) -> None:
        path = folder / "finished" / "audit.json"
        document = {**json.loads(path.read_text()), **changed}
        del document["sha256"]
        path.write_text(canonical({**document, "sha256": text_hash(canonical(document))}))

    return spoil


def file_for_folder(folder: Path) -> None:
    """Put a file where the checkpoints are."""
    shutil.rmtree(folder / "unfinished" / "checkpoint")
    (folder / "unfinished" / "checkpoint").write_text("")


def linked(name: str, target: str) -> Callable[[Path], None]:
    """Return what makes a link."""
    return lambda folder: (folder / name).symlink_to(target)


def locked(folder: Path) -> None:
    """Make a folder that nobody may write to."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (folder / "closed").mkdir(mode=0o500)


def no_such_kernel(folder: Path) -> None:
    """Skip where there is no folder that not even root can write to."""
    if not Path("/proc/self").is_dir():
        pytest.skip("there is no /proc")


DESTINATIONS: dict[str, Case] = {
    "a folder that holds something else": Case(("images", "not empty"), more=("--out", "images")),
    "a folder with a finished run": Case(("finished run", "amnesty verify"), more=("--out", "finished")),
    "a finished run of another request that is to go on": Case(
        ("another request",), more=("--out", "finished", "--resume", "--set", "seed=1")
    ),
    "a folder with an unfinished run": Case(("not finished", "--resume"), SLOW, more=("--out", "unfinished")),
    "a run of another seed": Case(("another request",), SLOW, more=(*RESUME, "--set", "seed=1")),
    "a run of another method": Case(("another request",), right(method="method: ssd"), more=RESUME),
    "a run whose request was changed": Case(
        ("another request",), SLOW, more("unfinished/request.yaml", "# mine\n"), more=RESUME
    ),
    "a run that is going on": Case(("Another run",), SLOW, write("unfinished/.lock", ""), more=RESUME, within=held),
    "a run whose checkpoints are a file": Case(("checkpoint",), SLOW, file_for_folder, more=RESUME),
    "a run whose model was changed meanwhile": Case(
        ("another run", "model"),
        SLOW,
        spoilt_weights(lambda layer: layer.weight.mul_(2)),
        more=RESUME,
        changes=("work/unfinished/checkpoint/started.json",),
    ),
    "no room": Case(("MiB free",), within=full),
    "a folder that may not be written to": Case(("`out`", "closed"), spoil=locked, more=("--out", "closed/result")),
    "a folder of the kernel": Case(("/proc/result",), spoil=no_such_kernel, more=("--out", "/proc/result")),
    "a link that leads nowhere": Case(("`out`", "leads nowhere"), spoil=linked("result", "nowhere/at/all")),
    "a link in a circle": Case(("`out`", "leads nowhere"), spoil=linked("result", "result")),
    "weights that are a link in a circle": Case(
        ("`model.weights`", "m.pt"),
        right(model="model: {import: 'mine.py:network', weights: m.pt}"),
        linked("m.pt", "m.pt"),
    ),
    "a link into the data": Case(
        ("`out`", "data.training.images"), right(data=IMAGES), linked("result", "images/cat")
    ),
}

EARLIER: dict[str, Case] = {
    "no earlier run": Case(("`model.run`", "request.yaml"), right(model="model: {run: images}")),
    "an earlier run that is not over": Case(
        ("`model.run`", "not over"), right(model="model: {run: unfinished}"), removed("finished/audit.json")
    ),
    "an earlier run without a record": Case(("finished", "audit.json"), AFTER, removed("finished/audit.json")),
    "an earlier run with another history": Case(
        ("history.jsonl", "changed"), AFTER, more("finished/history.jsonl", "{}\n")
    ),
    "an earlier run with other weights": Case(
        ("model.safetensors", "changed"), AFTER, flipped("finished/model.safetensors", -1)
    ),
    "an earlier run with another record": Case(("audit.json", "changed"), AFTER, flipped("finished/audit.json", 200)),
    "an earlier run that forgets what it forgot": Case(
        ("forgotten.json", "missing"), AFTER, removed("finished/forgotten.json")
    ),
    "an earlier run with a file more": Case(("run.py", "added"), AFTER, write("finished/run.py", "import os\n")),
    "an earlier run that is its own": Case(
        ("finished", "lead back"),
        right(model="model: {run: finished}"),
        write("finished/request.yaml", right(model="model: {run: .}", out=f"out: {os.devnull}x")),
    ),
}

VERIFY: dict[str, Case] = {
    "no folder to verify": Case(("nowhere",), command=("verify", "nowhere")),
    "a file to verify": Case(("rows.txt",), command=("verify", "rows.txt")),
    "a folder without a record": Case(("images", "audit.json"), command=("verify", "images")),
    "a run that is not over to verify": Case(("unfinished", "not come to its end"), command=("verify", "unfinished")),
    "a record of another schema": Case(
        ("`schema`", "99"), spoil=rewritten(schema=99), command=("verify", "finished")
    ),
    "no public key": Case(
        ("none.pem",), command=("verify", "finished", "--key", "none.pem"), needs=("model_signing",)
    ),
    "a public key that is none": Case(
        ("rows.txt", "public key"), command=("verify", "finished", "--key", "rows.txt"), needs=("model_signing",)
    ),
    "a signer without an issuer": Case(("issuer",), command=("verify", "finished", "--identity", "me@example.org")),
    "a key and a signer": Case(
        ("key", "identity"),
        command=("verify", "finished", "--key", "a", "--identity", "me@example.org", "--issuer", "https://a.org"),
    ),
}

FOLDERS = {**DESTINATIONS, **EARLIER, **VERIFY}
