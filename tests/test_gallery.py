"""The gallery of the docs and the command's table come from the one table of methods."""

import ast
import inspect
import sys
from pathlib import Path
from statistics import median

import pytest

from amnesty import gallery
from amnesty.errors import InvalidInputError, UnknownNameError
from amnesty.methods import METHODS, MUNBa, NegGradPlus, method_named

ROOT = Path(__file__).parent.parent
FILES = {name: Path(sys.modules[method.__module__].__file__ or "") for name, method in METHODS.items()}

DEEP_UNLEARN = [
    "FT",
    "SRL",
    "GA",
    "NG+",
    "CF-k",
    "EU-k",
    "SCRUB",
    "SalUn",
    "BT",
    "FF",
    "IU",
    "FCS",
    "MSG",
    "CFW",
    "PRMQ",
    "CT",
    "KDE",
    "RNI",
]
OTHERS = [
    "MUNBa",
    "LUR",
    "SHs",
    "l1-sparse",
    "Amnesiac",
    "UNSIR",
    "SSD",
    "BS",
    "BE",
    "SalUn-soft",
    "OMP",
    "RL",
    "Retrain",
    "ESD",
    "UCE",
]


def code_lines(path: Path) -> int:
    """Lines that hold code: neither empty nor comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    silent = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            silent |= set(range(first.lineno, (first.end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and k not in silent for k, line in lines)


def test_every_published_method_is_there_under_its_name():
    assert {method.about.short for method in METHODS.values()} == {*DEEP_UNLEARN, *OTHERS}
    assert len(DEEP_UNLEARN) == 18


def test_the_page_of_the_docs_is_the_one_that_the_table_gives():
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert page == gallery.page(METHODS), "run: amnesty methods --markdown > docs/methods.md"


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_tells_what_it_does_where_it_is_from_and_what_it_needs(self, name):
        method = METHODS[name]
        assert gallery.line(method).endswith(".") and len(gallery.line(method)) < 118
        assert method.about.title and method.about.short and method.about.needs
        if name != "retrain":
            assert method.about.year and method.about.paper.startswith("arXiv:") and method.about.authors
            assert f"{method.about.paper}" in inspect.getdoc(method)

    def test_documents_the_settings_of_its_own(self, name):
        method = METHODS[name]
        own = set(method.__annotations__) - {"about"}
        inherited = {field for base in method.__mro__[1:] for field in getattr(base, "__annotations__", {})}
        missing = {setting for setting in own - inherited if f"{setting}" not in inspect.getdoc(method)}
        assert not missing

    def test_stands_in_a_file_of_its_own_that_knows_no_other_method(self, name):
        assert list(FILES.values()).count(FILES[name]) == 1
        imported = {
            node.module
            for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
        }
        others = {METHODS[other].__module__ for other in METHODS if other != name} | {"amnesty.methods"}
        assert not imported & others

    def test_refuses_settings_that_it_does_not_have(self, name):
        with pytest.raises(UnknownNameError, match=f"Unknown setting of {METHODS[name].__name__} 'lerning_rate'"):
            METHODS[name](lerning_rate=0.1)


def test_the_room_is_small():
    assert median(code_lines(path) for path in FILES.values()) <= 60
    room = Path(sys.modules["amnesty.methods"].__file__ or "").parent
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in room.glob("*.py"))
    assert lines <= 81 * len(METHODS)  # what they share among it


def test_names_of_papers_are_known_in_any_case():
    assert method_named("ng+") is NegGradPlus and method_named("MUNBA") is MUNBa
    with pytest.raises(UnknownNameError, match="Did you mean 'munba'"):
        method_named("numba")


def test_the_nearest_setting_is_suggested():
    with pytest.raises(UnknownNameError, match="Did you mean 'epochs'"):
        MUNBa(epoch=3)
    with pytest.raises(InvalidInputError, match="`epochs` must be a whole number"):
        MUNBa(epochs=0.5)


def test_settings_are_shown_as_python_writes_them():
    shown = gallery.settings(METHODS["omp"])
    assert shown["method"] == "required" and gallery.settings(MUNBa)["schedule"] == "'linear'"
