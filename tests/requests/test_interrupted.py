"""Whole runs that are stopped or killed, as a user would: with signals to the command."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amnesty.requests.verifying import verify
from tests.requests.whole_runs import asked, names, read, result, run

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no such signals")


def command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "amnesty", *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_checkpoint(out, process):
    while process.poll() is None and not list((out / "checkpoint").glob("step-*")):
        time.sleep(0.001)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_command_and_it_goes_on_to_the_same_bits(tmp_path, number, code):
    method = {"name": "finetune", "epochs": 100, "lr": 0.01, "batch_size": 26}
    request, out = asked(tmp_path, method=method), tmp_path / "stopped"
    process = command("unlearn", request, "--out", out, "--set", "checkpoint.steps=20")
    wait_for_a_checkpoint(out, process)
    process.send_signal(number)
    said, error = process.communicate(timeout=300)
    assert process.returncode == code, error
    lines = error.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in said
    assert names(out) == {"request.yaml", "checkpoint"}
    assert verify_is_refused(out)

    again = shlex.split(lines[0].partition("Go on with: ")[2])
    assert again[:2] == ["amnesty", "unlearn"] and "--resume" in again
    done = command(*again[1:])
    assert done.communicate(timeout=300)[1] == "" and done.returncode == 0
    run(asked(tmp_path, method=method, checkpoint={"steps": 20}), tmp_path / "whole")
    assert result(out) == result(tmp_path / "whole")
    assert verify(out).ok and read(out, "audit.json")["time"]["sittings"] == 2


def verify_is_refused(folder):
    process = command("verify", folder)
    error = process.communicate(timeout=300)[1]
    return process.returncode == 2 and "has not come to its end" in error


def test_killed_at_any_moment_it_goes_on_to_the_same_result(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.requests.killed_runs", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = set(found["weights"]["files"])
    assert {"audit.json", "model.safetensors"} <= expected and "checkpoint" not in expected
    for word, one in found.items():
        assert one["killed"] and one["resumed"] == 0 and one["same"], (word, one)
        assert one["verified"] == [] and set(one["files"]) == expected, (word, one)
    # Before the request lay in the folder there was no sitting; after the record there was nothing left to do.
    alone = {word for word, one in found.items() if one["sittings"] == 1}
    assert alone == {"request", "clearing"}
    assert any("/" in name or name.startswith(".model") for name in found["weights"]["left"])
