import json
import math
import os
import stat

import pytest

from amnesty.files import write_json, write_json_lines, write_text


def test_writes_what_was_given(tmp_path):
    write_text(tmp_path / "a.txt", "vergessen: äöü\nund behalten\n")
    assert (tmp_path / "a.txt").read_bytes() == "vergessen: äöü\nund behalten\n".encode()


def test_replaces_what_was_there_and_leaves_nothing_else(tmp_path):
    for text in ("old", "new"):
        write_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    write_json(path, {"seconds": 1.5})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"seconds": 2.5})
    assert json.loads(path.read_text()) == {"seconds": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        write_text(tmp_path / "nowhere" / "a.txt", "")


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
def test_results_are_as_readable_as_other_files(tmp_path):
    (tmp_path / "other").write_text("")
    write_text(tmp_path / "a.txt", "")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused_before_anything_is_written(tmp_path, bad):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": bad})
    with pytest.raises(ValueError, match="JSON"):
        write_json_lines(tmp_path / "a.jsonl", [{"loss": 1.0}, {"loss": bad}])
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back(tmp_path):
    content = {"schema": 1, "methods": {"munba": {"forget_accuracy": 0.1}}}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == content


def test_one_json_object_a_line(tmp_path):
    records = [{"step": 1, "text": "two\nlines"}, {"step": 2}]
    write_json_lines(tmp_path / "a.jsonl", iter(records))
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == records
