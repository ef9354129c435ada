import errno
import os
import subprocess
import sys

import pytest
import torch

from amnesty.errors import CheckpointError, CheckpointWriteError
from amnesty.training import shards
from amnesty.training.shelf import Shelf

CPU = torch.device("cpu")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_listed_and_read(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.write("step", 12, {"phase": 1}, torch.ones(2))
    shelf.write("phase", 1, {"phase": 1}, torch.zeros(2))
    shelf.write("step", 9, {"phase": 1}, torch.zeros(2))
    found = shelf.entries()
    assert [(e.kind, e.number) for e in found] == [("phase", 1), ("step", 9), ("step", 12)]
    assert torch.equal(found[2].read(CPU), torch.ones(2)) and found[2].about == {"phase": 1}
    assert names(tmp_path) == ["phase-00000001", "step-00000009", "step-00000012"]


def test_a_folder_that_is_not_there_has_none(tmp_path):
    assert Shelf(tmp_path / "nothing").entries() == []


@pytest.mark.parametrize("at", range(4))
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, at):
    shelf, write, count = Shelf(tmp_path), shards._write, []
    shelf.write("step", 1, {}, torch.zeros(2))

    def full(path, data):
        count.append(path)
        if len(count) > at:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)

    monkeypatch.setattr(shards, "_write", full)
    with pytest.raises(
        CheckpointWriteError, match=r"checkpoint of step 2 could not.*No space left on device.*--resume"
    ):
        shelf.write("step", 2, {}, torch.ones(2))
    assert names(tmp_path) == ["step-00000001"] and shelf.entries()[0].damage() is None


def test_a_file_that_the_system_cuts_is_an_error_too(tmp_path):
    resource = pytest.importorskip("resource")
    shelf, limits = Shelf(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(CheckpointWriteError, match="File too large"):
            shelf.write("step", 2, {}, torch.ones(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


def test_an_interrupt_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Shelf(tmp_path).write("step", 1, {}, torch.ones(2))
    assert names(tmp_path) == []


def test_what_a_killed_run_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / ".partial-step-00000001-abc").mkdir()
    (tmp_path / ".partial-step-00000001-abc" / "state.json").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    Shelf(tmp_path).sweep()
    assert names(tmp_path) == ["notes.txt"]


class TestClear:
    def test_removes_the_folder(self, tmp_path):
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        Shelf(folder).write("step", 1, {}, None)
        Shelf(folder).clear()
        assert not folder.exists()
        Shelf(folder).clear()

    def test_leaves_what_is_not_its_own(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "step-1").mkdir()
        Shelf(tmp_path).write("phase", 1, {}, None)
        Shelf(tmp_path).clear()
        assert names(tmp_path) == ["notes.txt", "step-1"]

    def test_not_while_a_run_uses_it(self, tmp_path):
        with Shelf(tmp_path).locked(), pytest.raises(CheckpointError, match="Another run is using"):
            Shelf(tmp_path).clear()


class TestLock:
    def test_keeps_out_a_second_run_of_this_process(self, tmp_path):
        with Shelf(tmp_path).locked(), pytest.raises(CheckpointError, match="Another run is using"):
            Shelf(tmp_path / ".." / tmp_path.name).locked().__enter__()
        with Shelf(tmp_path).locked():
            pass

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no lock between processes on Windows")
    def test_keeps_out_another_process_until_that_is_killed(self, tmp_path):
        hold = "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)\n"
        hold += "fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
        other = subprocess.Popen([sys.executable, "-c", hold, tmp_path / ".lock"], stdout=subprocess.PIPE)
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(CheckpointError, match="Another run is using"), Shelf(tmp_path).locked():
                pass
        finally:
            other.kill()
            other.communicate()
        with Shelf(tmp_path).locked():
            pass
