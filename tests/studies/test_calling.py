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


def test_a_function_that_fails_says_so_and_why(tmp_path):
    (tmp_path / "mine.py").write_text("def made(seed):\n    pass\n\ndef fails():\n    return {}['no key']\n")
    with pytest.raises(InvalidInputError, match=r"mine.py:made failed: TypeError: .*'seed'") as found:
        call(f"{tmp_path}/mine.py:made")
    assert isinstance(found.value.__cause__, TypeError)
    with pytest.raises(InvalidInputError, match="KeyError: 'no key'"):
        call(f"{tmp_path}/mine.py:fails")


def test_arguments_are_given_by_name(tmp_path):
    (tmp_path / "mine.py").write_text("def made(width, depth=2):\n    return width, depth\n")
    assert call(f"{tmp_path}/mine.py:made", {"width": 7}) == (7, 2)
    with pytest.raises(InvalidInputError, match=r"mine.py:made failed: TypeError: .*'heigth'"):
        call(f"{tmp_path}/mine.py:made", {"heigth": 7})


def test_an_error_of_many_lines_is_one(tmp_path):
    (tmp_path / "mine.py").write_text("def made():\n    raise ValueError('one\\ntwo')\n")
    with pytest.raises(InvalidInputError, match="ValueError: one two"):
        call(f"{tmp_path}/mine.py:made")


def test_a_file_may_hold_dataclasses_and_pickle_them(tmp_path):
    (tmp_path / "json.py").write_text(
        "from __future__ import annotations\n"
        "import pickle\nfrom dataclasses import KW_ONLY, dataclass\n\n"
        "@dataclass\nclass Point:\n    _: KW_ONLY\n    x: int = 3\n\n"
        "def made():\n    return pickle.loads(pickle.dumps(Point())).x\n"
    )
    known = sys.modules["json"]
    assert call(f"{tmp_path}/json.py:made") == 3
    assert sys.modules["json"] is known  # a file hides no module of the same name


def test_a_file_that_fails_leaves_no_module_behind(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    before = set(sys.modules)
    with pytest.raises(InvalidInputError, match="ZeroDivisionError"):
        call(f"{tmp_path}/broken.py:task")
    assert not {name for name in set(sys.modules) - before if "broken" in name}
