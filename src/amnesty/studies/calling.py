"""Functions of the user's, named on the command line or in a request, that make what only they can know."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amnesty.data import Canaries
from amnesty.errors import InvalidInputError, UnknownNameError, one_line
from amnesty.tasks import Classification

_COUNT = itertools.count()


def call(path: str, options: Mapping[str, Any] | None = None) -> Any:
    """Call the function at ``package.module:function`` or ``file.py:function``; return its value.

    Args:
        path: of the function.
        options: its arguments by name; by default none.

    Raises:
        InvalidInputError: it is not of that form, or cannot be imported or called with these arguments, or fails.
        UnknownNameError: the module has no such function.
    """
    where, _, name = path.rpartition(":")
    if not where or not name.isidentifier():
        raise InvalidInputError(f"A function is named package.module:function or file.py:function, found {path!r}.")
    try:
        module = _module(where)
    except (Exception, SystemExit) as error:  # whatever the user's module may raise
        raise InvalidInputError(f"{where!r} cannot be imported: {one_line(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UnknownNameError("function", name, [n for n in vars(module) if not n.startswith("_")])
    try:
        return function(**(options or {}))
    except (Exception, SystemExit) as error:  # whatever the user's function may raise
        raise InvalidInputError(f"{path} failed: {one_line(error)}") from error


def _module(where: str) -> Any:
    if not where.endswith(".py"):
        if "" not in sys.path:
            sys.path.insert(0, "")  # as `python -m` does, so that a module in the current folder is found
        return importlib.import_module(where)
    name = f"_amnesty_{next(_COUNT)}_{Path(where).stem}"  # of no other module, installed or loaded before
    spec = importlib.util.spec_from_file_location(name, where)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"{where} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def task_at(path: str) -> Classification:
    """Return the task that a function of the user's makes; see `call`.

    Raises:
        InvalidInputError: it makes something else.
    """
    found = call(path)
    if not isinstance(found, Classification):
        raise InvalidInputError(f"{path} must return an `amnesty.Classification`, found {type(found).__name__}.")
    return found


def canaries_at(path: str) -> Canaries:
    """Return the canaries that a function of the user's makes, as it made them before training; see `call`."""
    found = call(path)
    if not isinstance(found, Canaries):
        raise InvalidInputError(f"{path} must return `amnesty.data.Canaries`, found {type(found).__name__}.")
    return found
