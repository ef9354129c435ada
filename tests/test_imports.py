"""The rooms of the house and their arrows: an import may only go down.

All imports count, those inside functions and under ``TYPE_CHECKING`` too: they are knowledge as well.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import amnesty

SOURCE = Path(amnesty.__file__).parent

FLOOR = {"errors", "files", "seeds"}
GROUND = FLOOR | {"bargaining", "data", "tasks", "weights", "training"}
MIDDLE = GROUND | {"methods", "unlearning", "evaluation", "attacks"}
MAY_KNOW: dict[str, set[str]] = {  # the one table of arrows; a room may always know itself
    "errors": set(),
    "files": {"errors"},
    "seeds": {"errors"},
    "bargaining": {"errors"},
    "data": FLOOR,
    "tasks": FLOOR | {"data"},
    "weights": FLOOR | {"data", "tasks"},
    "training": FLOOR | {"bargaining", "data", "tasks", "weights"},
    "methods": GROUND,
    "evaluation": FLOOR | {"data", "tasks", "weights"},
    "attacks": FLOOR | {"data", "tasks"},
    "reports": {"errors", "files", "evaluation"},  # it reads files, whoever wrote them
    "studies": MIDDLE,
    "requests": MIDDLE | {"studies", "reports"},
    "unlearning": FLOOR | {"tasks", "training", "methods"},
    "gallery": {"methods"},
    "cli": FLOOR | {"gallery", "methods", "requests", "studies", "reports"},
    "__main__": {"cli"},
    "testing": MIDDLE,
    "amnesty": MIDDLE | {"studies", "reports", "requests"},  # __init__.py, which hands names on
}

# What `import amnesty` must not load: the extras, and what only some commands or calls need.
LATE = (
    "accelerate cvxpy datasets diffusers jinja2 matplotlib model_signing open_clip optuna pandas peft PIL "
    "pyarrow ray rich sklearn scipy timm torchjd torchvision transformers typer"
)


def name_of(path: Path) -> str:
    """``amnesty/data/split.py`` is ``amnesty.data.split``; a package is named by its folder."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def room_of(module: str) -> str:
    """``amnesty.data.split`` stands in ``data``; ``amnesty`` itself in ``amnesty``."""
    return module.split(".")[min(1, module.count("."))]


def imported_names(module: str) -> Iterator[str]:
    """Every name that the module imports, absolute: ``from a.b import c`` gives ``a.b.c``."""
    path = MODULES[module]
    package = module.split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


@cache
def inner_imports(module: str) -> set[str]:
    """The modules of Amnesty that this one imports."""
    names = {name for name in imported_names(module) if name.split(".")[0] == "amnesty"}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names}


def test_every_room_on_disk_is_in_the_table():
    assert {room_of(module) for module in MODULES} <= MAY_KNOW.keys()


def test_the_table_itself_has_no_circle():
    graphlib.TopologicalSorter(MAY_KNOW).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", MODULES)
def test_arrows_go_down(module):
    room = room_of(module)
    allowed = MAY_KNOW.get(room, set()) | {room}
    upward = {other for other in inner_imports(module) if room_of(other) not in allowed}
    assert not upward, f"{module} must not know {sorted(upward)}; it may know {sorted(allowed)}."


def test_no_two_modules_import_each_other():
    graphlib.TopologicalSorter({module: inner_imports(module) for module in MODULES}).prepare()


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "bargaining"])
def test_bargaining_knows_only_torch(module):
    strangers = {name.split(".")[0] for name in imported_names(module)} - sys.stdlib_module_names
    assert strangers <= {"torch", "amnesty"}


def test_import_amnesty_loads_nothing_heavy():
    script = f"import sys, amnesty; print(*sorted(sys.modules.keys() & {set(LATE.split())}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
