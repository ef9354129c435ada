import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from amnesty.errors import InvalidInputError
from amnesty.requests.checking import read_request
from amnesty.requests.run_folder import RunFolder, RunFolderError
from tests.requests.whole_runs import asked, names


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path, "out")


def folder_of(home, name, **changed):
    request = read_request(asked(home, **changed), out=home / name)
    return RunFolder(request.out, request)


def save(folder, name="step-00000001"):
    (folder.checkpoint / name).mkdir()


def test_a_new_or_empty_folder_is_free(folder):
    folder.check(resume=False)
    assert not folder.path.exists()
    folder.path.mkdir()
    folder.check(resume=True)
    assert not folder.finished and not folder.unfinished


def test_a_run_that_failed_before_anything_was_saved_leaves_nothing(folder):
    def fail() -> None:
        with folder.taken(resume=False):
            assert names(folder.path) == {".lock", "request.yaml", "checkpoint"}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not folder.path.exists()


def test_a_folder_that_was_there_stays(folder):
    folder.path.mkdir()
    with pytest.raises(ZeroDivisionError), folder.taken(resume=False):
        raise ZeroDivisionError
    assert names(folder.path) == set()


def test_what_was_saved_stays_and_the_run_goes_on(folder):
    sittings = []

    def fail() -> None:
        with folder.taken(resume=False) as sitting:
            sittings.append(sitting)
            save(folder)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    first = sittings[0]
    assert folder.unfinished and names(folder.path) == {"request.yaml", "checkpoint"}
    with pytest.raises(RunFolderError, match="not finished. Go on with --resume"):
        folder.check(resume=False)
    with folder.taken(resume=True) as second:
        assert (first.number, second.number) == (1, 2) and first.started == second.started <= datetime.now(UTC)


def test_a_damaged_note_of_the_beginning_is_a_new_beginning(folder):
    with folder.taken(resume=False):
        save(folder)
    for text in ("", "[]", '{"started": "yesterday"}', '{"started": 3, "sittings": 1}'):
        (folder.checkpoint / "started.json").write_text(text)
        with folder.taken(resume=True) as sitting:
            assert sitting.number == 1


def test_two_runs_cannot_write_to_one_folder(folder):
    with folder.taken(resume=False):
        for resume in (False, True):
            with pytest.raises(RunFolderError, match="Another run is writing to"), folder.taken(resume):
                raise AssertionError("it was let in")
        assert folder.unfinished  # the one that was refused took nothing away


def test_another_request_is_refused(tmp_path, folder):
    with folder.taken(resume=False):
        save(folder)
    other = folder_of(tmp_path, "out", seed=1)
    with pytest.raises(RunFolderError, match="another request"):
        other.check(resume=True)
    (folder.path / "request.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RunFolderError, match="another request"):
        folder.check(resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_what_is_not_of_a_run_is_left_alone(folder, resume):
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="holds no run"), folder.taken(resume):
        raise AssertionError("it was let in")
    assert names(folder.path) == {"thesis.tex"}


def test_a_request_of_the_user_in_the_folder_is_left_alone(folder):
    folder.path.mkdir()
    (folder.path / "request.yaml").write_text("name: mine\n")
    for resume in (False, True):
        with pytest.raises(RunFolderError), folder.taken(resume):
            raise AssertionError("it was let in")
    assert (folder.path / "request.yaml").read_text() == "name: mine\n"


def test_a_file_is_no_folder(folder):
    folder.path.write_text("")
    with pytest.raises(RunFolderError, match="is a file"):
        folder.check(resume=False)


def test_a_finished_run_is_not_begun_anew(folder):
    with folder.taken(resume=False):
        save(folder)
        (folder.path / "audit.json").write_text("{}")
        folder.finish()
    assert folder.finished and names(folder.path) == {"request.yaml", "audit.json"}
    for resume in (False, True):
        with pytest.raises(RunFolderError, match="finished run"):
            folder.check(resume)


def test_a_record_without_the_last_word_is_written_anew(folder):
    with folder.taken(resume=False):
        save(folder)
        for name in ("audit.json", "model.sig", ".scores.json.0123456789abcdef", "notes.txt"):
            (folder.path / name).write_text("{}")
        (folder.path / ".model.0123456789abcdef").mkdir()  # of `save_pretrained`
    assert not folder.finished
    with folder.taken(resume=True):
        assert names(folder.path) == {".lock", "request.yaml", "checkpoint", "notes.txt"}


def test_what_a_finished_run_left_behind_is_swept(folder):
    with folder.taken(resume=False):
        save(folder)
        (folder.path / "audit.json").write_text("{}")
    (folder.checkpoint / "started.json").unlink()  # killed right afterwards
    (folder.path / ".lock").touch()
    folder.sweep()
    assert names(folder.path) == {"request.yaml", "audit.json"}


def test_a_disk_without_room_is_told_before_anything_is_written(folder):
    folder.check_room(1)
    with pytest.raises(RunFolderError, match="MiB free"):
        folder.check_room(10**18)
    assert not folder.path.exists()


def test_a_folder_that_cannot_be_made_is_one_message(folder, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InvalidInputError, match="cannot be written to: Permission denied"), folder.taken(False):
        raise AssertionError("it was let in")


def test_the_request_in_the_folder_is_the_same_request(folder):
    with folder.taken(resume=False):
        save(folder)
        again = read_request(folder.path / "request.yaml", out=folder.path)
        RunFolder(again.out, again).check_request()
        assert json.loads((folder.checkpoint / "started.json").read_text())["sittings"] == 1
