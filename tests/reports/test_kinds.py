import pytest
from rich.console import Console

from amnesty.errors import ReportError
from amnesty.reports import kind_of, show, write_page_of
from tests.reports import folders, request_folders


def shown(folder):
    console = Console(width=110)
    with console.capture() as captured:
        show(console, folder)
    return captured.get()


def test_a_requests_run(tmp_path):
    folder = request_folders.write(tmp_path)
    assert kind_of(folder) == "request"
    assert "deletion request" in write_page_of(folder).read_text(encoding="utf-8")
    assert "amnesty verify" in shown(folder)


def test_a_scenario_and_a_folder_of_them(tmp_path):
    folders.write(tmp_path / "a")
    for folder in (tmp_path / "a", tmp_path):
        assert kind_of(folder) == "scenarios"
        assert "unlearning report" in write_page_of(folder).read_text(encoding="utf-8")
        assert "Forget one class" in shown(folder)


def test_an_audited_page_is_replaced_only_by_force(tmp_path):
    folder = request_folders.write(tmp_path)
    page = write_page_of(folder)
    (folder / "audit.json").write_text("{}")
    page.write_text("another")
    with pytest.raises(ReportError, match="`--force`"):
        write_page_of(folder)
    assert "deletion request" in write_page_of(folder, force=True).read_text(encoding="utf-8")


def test_unfinished_and_broken_runs_are_named(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(ReportError, match=r"not finished.*`--resume`"):
        kind_of(tmp_path)
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(ReportError, match=r"audit\.json but no run\.json"):
        kind_of(tmp_path)
