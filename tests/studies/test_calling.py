import sys

import pytest

from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.studies.calling import call, canaries_at, task_at


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def made():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert call("only_here:made") == 7


def test_a_module_that_fails_says_so(tmp_path):
    (tmp_path / "broken.py").write_text("raise RuntimeError('no data here')")
    with pytest.raises(InvalidInputError, match="RuntimeError: no data here"):
        call(f"{tmp_path}/broken.py:task")


def test_only_functions_are_called_and_their_values_checked(tmp_path):
    (tmp_path / "mine.py").write_text("value = 3\ndef made():\n    return value\n")
    with pytest.raises(UnknownNameError, match="Known: made, value"):
        call(f"{tmp_path}/mine.py:value")
    for make in (task_at, canaries_at):
        with pytest.raises(InvalidInputError, match="found int"):
            make(f"{tmp_path}/mine.py:made")
