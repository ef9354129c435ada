"""Checkpoints as a caller sees them: what is refused, and processes that are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import amnesty
from amnesty.errors import CheckpointError, InvalidInputError
from amnesty.methods import (
    FineTune,
    MUNBa,
)
from amnesty.training import Checkpoints
from tests import tiny
from tests.training.sittings import LONG, QUICK, Augmented, names, same, sitting, task, whole


class TestRefusals:
    def test_a_folder_with_checkpoints_is_not_overwritten(self, tmp_path):
        sitting(task, LONG, tmp_path, 3)
        before = names(tmp_path)
        with pytest.raises(CheckpointError, match="holds checkpoints. Go on from them with `resume=True`"):
            sitting(task, LONG, tmp_path, checkpoints={"resume": False})
        assert names(tmp_path) == before

    @pytest.mark.parametrize(
        ("make", "method", "options", "says"),
        [
            (task, FineTune(epochs=3, batch_size=16, lr=0.04), {}, "setting lr was 0.05, is 0.04"),
            (task, LONG, {"seed": 1}, "seed was 0, is 1"),
            (task, LONG, {"precision": "bfloat16"}, "precision was 'float32', is 'bfloat16'"),
            (task, LONG, {"workers": 1}, "workers was 0, is 1"),
            (lambda: task(tiny.mlp), LONG, {}, "the model is another"),
            (lambda: task(wrap=Augmented), LONG, {}, "the retain set is another"),
        ],
    )
    def test_checkpoints_of_another_run(self, tmp_path, make, method, options, says):
        sitting(task, LONG, tmp_path, 3)
        before = names(tmp_path)
        with pytest.raises(CheckpointError, match=f"are of another run: .*{says}"):
            sitting(make, method, tmp_path, **options)
        assert names(tmp_path) == before

    def test_a_file_in_place_of_the_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError, match="is a file"):
            sitting(task, LONG, tmp_path / "file")

    def test_a_folder_in_use(self, tmp_path):
        def second(record, total):
            with pytest.raises(CheckpointError, match="Another run is using"):
                sitting(task, LONG, tmp_path)

        amnesty.unlearn(task(), FineTune(epochs=1), progress=second, checkpoints=Checkpoints(tmp_path))

    def test_what_are_no_checkpoints(self):
        with pytest.raises(InvalidInputError, match="`checkpoints` must say where the run is saved"):
            amnesty.unlearn(task(), LONG, checkpoints="folder")

    def test_all_faults_at_once(self):
        with pytest.raises(InvalidInputError, match="`steps` must be .*`minutes` must be .*`stop` must be.*`folder`"):
            Checkpoints("", steps=0, minutes=-1, stop=3)

    def test_rules_with_a_memory(self, tmp_path):
        class Weighting:
            def reset(self):
                pass

            def __call__(self, gramian):
                return torch.ones(len(gramian), dtype=torch.float64)

        with pytest.raises(CheckpointError, match="The rule Weighting remembers earlier steps"):
            sitting(task, MUNBa(**QUICK, rule=Weighting()), tmp_path)

    def test_an_optimiser_that_lasts_unsaid(self, tmp_path):
        class Mine(FineTune):
            def run(self, task, loop):
                made = []

                def again(parameters, steps):
                    made[:] = made or [torch.optim.SGD(parameters, lr=0.1)]
                    return made[0]

                for _ in range(2):
                    self.train(task, loop, {"retain": task.preserved()}, optimizer=again)

        with pytest.raises(CheckpointError, match="Make it with `amnesty.training.phases.lasting`"):
            sitting(task, Mine(**QUICK), tmp_path)


SCRIPT = """
import sys
from pathlib import Path
from amnesty import unlearn
from amnesty.errors import InterruptedRunError
from amnesty.training import Checkpoints, stop_on_signals
from safetensors.torch import save_file
from tests.training.sittings import LONG, task

def watch(record, total):
    print(record["step"], flush=True)
    if record["step"] == int(sys.argv[2]):
        sys.stdin.readline()

with stop_on_signals() as stop:
    saved = Checkpoints(sys.argv[1], steps=1, minutes=None, resume=True, stop=stop)
    try:
        unlearn(task(), LONG, progress=watch, checkpoints=saved)
    except InterruptedRunError as error:
        sys.exit(f"stopped after {error.step}")
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_gets_a_signal(tmp_path, how):
    """The process waits inside step 5, of which nothing is saved yet."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "c"), "5"]
    run = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    while run.stdout.readline() != "5\n":
        assert run.poll() is None
    run.send_signal(how)
    _, errors = run.communicate("\n", timeout=60)
    if how == signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL and names(tmp_path / "c")[-1] == "step-00000004"
    else:
        assert errors.splitlines()[-1] == "stopped after 5" and names(tmp_path / "c")[-1] == "step-00000005"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = sitting(task, LONG, tmp_path / "c")
        assert same(found, whole(task, LONG)) and found.notes == ()
        assert found.resumed_after == (4 if how == signal.SIGKILL else 5,)
    finally:
        torch.set_num_threads(threads)
