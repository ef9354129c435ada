"""When a run is saved, what is kept, and what is made of what is found."""

import errno
import os
import time
from contextlib import suppress

import pytest
import torch
from torch import nn

import amnesty
from amnesty.errors import CheckpointWriteError, InterruptedRunError
from amnesty.methods import (
    RNI,
    Scissorhands,
)
from amnesty.training import Checkpoints, shards
from tests import tiny
from tests.training.sittings import LONG, QUICK, in_sittings, names, same, sitting, task, whole


def test_it_saves_by_steps_and_keeps_two(tmp_path):
    seen = []
    saved = Checkpoints(tmp_path, steps=4, minutes=None)
    amnesty.unlearn(task(), LONG, progress=lambda record, total: seen.append(names(tmp_path)), checkpoints=saved)
    assert seen[3] == [] and seen[4] == ["step-00000004"]
    assert seen[9] == seen[11] == ["step-00000004", "step-00000008"]
    assert names(tmp_path) == ["phase-00000001", "step-00000008", "step-00000012"]


def test_it_saves_by_time(tmp_path):
    saved = Checkpoints(tmp_path, minutes=1e-9)
    amnesty.unlearn(task(), LONG, checkpoints=saved)
    assert names(tmp_path) == ["phase-00000001", "step-00000011", "step-00000012"]
    amnesty.unlearn(task(), LONG, checkpoints=Checkpoints(tmp_path / "rare"))
    assert names(tmp_path / "rare") == ["phase-00000001"]


def test_the_watch_sees_each_step_once_and_the_true_total(tmp_path):
    seen = []

    def run(stop):
        saved = Checkpoints(tmp_path, minutes=None, resume=True, stop=lambda: len(seen) >= stop)
        watch = lambda record, total: seen.append((record["step"], total))  # noqa: E731
        return amnesty.unlearn(task(), RNI(epochs=3, fine_epochs=1, batch_size=16), progress=watch, checkpoints=saved)

    for stop in (4, 9):
        with pytest.raises(InterruptedRunError, match=f"Stopped after step {stop}, as asked") as error:
            run(stop)
        assert error.value.step == stop and error.value.folder == tmp_path
    run(99)
    assert seen == [(k, 4 * -(-k // 4)) for k in range(1, 13)]


def test_notes_of_a_method_are_told_once(tmp_path):
    seen, method = [], Scissorhands(**QUICK, memories=2)
    for stop in (1, 3, 99):
        saved = Checkpoints(tmp_path, minutes=None, resume=True, stop=lambda stop=stop: len(seen) >= stop)
        with suppress(InterruptedRunError):
            amnesty.unlearn(task(), method, progress=lambda r, n: seen.append(r["step"]), checkpoints=saved)
    assert seen == list(range(1, len(whole(task, method).history) + 1))


def test_seconds_are_those_of_all_sittings(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def run(stop):
        def watch(record, total):
            now[0] += 10

        began = now[0]
        saved = Checkpoints(tmp_path, resume=True, minutes=None, stop=lambda: now[0] >= began + stop)
        return amnesty.unlearn(task(), LONG, progress=watch, checkpoints=saved)

    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            run(stop=50)
        now[0] += 1e6  # nobody works
    assert run(stop=1e9).seconds == 120


def test_the_callers_random_state_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    in_sittings(task, LONG, tmp_path, steps=5)
    assert torch.equal(torch.get_rng_state(), before)


class TestDamage:
    """A checkpoint that was damaged costs nothing but its own steps."""

    def damaged(self, folder, name, how):
        path = next(p for p in sorted((folder / name).iterdir()) if p.name.startswith(how.split()[1]))
        content = path.read_bytes()
        if how.startswith("cut"):
            path.write_bytes(content[: len(content) // 2])
        elif how.startswith("flip"):
            path.write_bytes(content[:-40] + bytes([content[-40] ^ 4]) + content[-39:])
        else:
            path.unlink()

    def run(self, folder, told):
        return sitting(task, LONG, folder, checkpoints={"tell": told.append})

    @pytest.mark.parametrize("how", ["cut tensors", "flip tensors", "flip state", "cut state", "gone manifest"])
    def test_the_newest_whole_one_is_used(self, tmp_path, how):
        sitting(task, LONG, tmp_path, 7, checkpoints={"steps": 3})
        assert names(tmp_path) == ["step-00000006", "step-00000007"]
        self.damaged(tmp_path, "step-00000007", how)
        told = []
        found = self.run(tmp_path, told)
        assert same(found, whole(task, LONG)) and found.resumed_after == (6,)
        assert len(told) == 1 and "step-00000007 is damaged and not used" in told[0] and found.notes == tuple(told)

    def test_with_none_left_the_run_starts_over_and_says_so(self, tmp_path):
        sitting(task, LONG, tmp_path, 7, checkpoints={"steps": 3})
        for name in names(tmp_path):
            self.damaged(tmp_path, name, "flip state")
        told = []
        found = self.run(tmp_path, told)
        assert same(found, whole(task, LONG)) and found.resumed_after == ()
        assert len(told) == 3 and "the run starts from the beginning" in told[2]

    def test_the_end_of_a_phase(self, tmp_path):
        method, told = RNI(epochs=4, fine_epochs=2, batch_size=16), []
        sitting(task, method, tmp_path, 14)
        assert names(tmp_path) == ["phase-00000001", "phase-00000002", "phase-00000003", "step-00000014"]
        self.damaged(tmp_path, "phase-00000002", "flip tensors")
        found = sitting(task, method, tmp_path, checkpoints={"tell": told.append})
        assert same(found, whole(task, method)) and found.resumed_after == (4,)
        assert "phase-00000002 is damaged" in told[0]

    def test_by_default_it_is_a_warning(self, tmp_path):
        sitting(task, LONG, tmp_path, 3, checkpoints={"steps": 1})
        self.damaged(tmp_path, "step-00000003", "flip tensors")
        with pytest.warns(UserWarning, match="step-00000003 is damaged"):
            sitting(task, LONG, tmp_path)

    def test_what_was_half_written_is_removed(self, tmp_path):
        sitting(task, LONG, tmp_path, 3)
        (tmp_path / ".partial-step-00000004-00").mkdir()
        sitting(task, LONG, tmp_path)
        assert names(tmp_path) == ["phase-00000001", "step-00000003"]

    def test_other_files_are_left_alone(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        assert same(in_sittings(task, LONG, tmp_path, steps=5), whole(task, LONG))
        Checkpoints(tmp_path).clear()
        assert (tmp_path / "notes.txt").read_text() == "mine" and not Checkpoints(tmp_path).found


def test_other_threads_are_told_of(tmp_path, monkeypatch):
    sitting(task, LONG, tmp_path, 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    with pytest.warns(UserWarning, match="goes on elsewhere than it began.*threads was .*, is 99"):
        found = sitting(task, LONG, tmp_path)
    assert same(found, whole(task, LONG))


def test_on_a_full_disk_the_older_checkpoint_stays(tmp_path, monkeypatch):
    write, count = shards._write, []

    def full(path, data):
        count.append(path.name)
        if len(count) > 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write", full)
        with pytest.raises(CheckpointWriteError, match="checkpoint of step 6 could not be written.*No space left"):
            sitting(task, LONG, tmp_path, checkpoints={"steps": 2})
    assert names(tmp_path) == ["step-00000002", "step-00000004"]
    found = sitting(task, LONG, tmp_path)
    assert same(found, whole(task, LONG)) and found.resumed_after == (4,)


def test_a_failed_step_goes_on_from_what_was_saved(tmp_path):
    class Failing(nn.Module):
        calls = 0

        def forward(self, x):
            Failing.calls += self.training
            if self.training and Failing.calls == 9:
                raise RuntimeError("out of memory")
            return x

    def make():
        return task(lambda: nn.Sequential(Failing(), *tiny.conv_net()))

    with pytest.raises(RuntimeError, match="out of memory"):
        sitting(make, LONG, tmp_path, checkpoints={"steps": 3})
    assert names(tmp_path) == ["step-00000003", "step-00000006"]
    found = sitting(make, LONG, tmp_path)
    assert found.resumed_after == (6,) and same(found, whole(make, LONG))
