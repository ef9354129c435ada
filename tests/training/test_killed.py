"""Runs that are killed while they write, remove and rename."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_killed_at_any_operation_it_goes_on_to_the_same_bits(tmp_path):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.killed", str(tmp_path), "2", "19"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=root, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 6 and all(one["killed"] and one["same"] for one in found), found
    assert sum(one["half"] for one in found) > 3  # killed inside writing or removing
    assert len({tuple(one["resumed"]) for one in found}) > 4
