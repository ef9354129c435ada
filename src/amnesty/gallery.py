"""The table of methods for people: what each does, needs and can be told."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping

from amnesty.methods import Edit, Iterative, Method, Negotiated

INTRODUCTION = """# The methods

Made from the one table of methods by `amnesty methods --markdown`. A method is a frozen dataclass, its fields are
all there is to set; `amnesty methods NAME` shows one. Needs in brackets are used where the task has them or a setting
asks for them. How they do on data where there is something to forget: [unlearning.md](unlearning.md).
"""

SHARED = """
## Settings that methods share

A method that trains has those of `Iterative`, one whose players meet in every step those of `Negotiated` too, and one
that edits the weights once those of `Edit`."""

SHARING: tuple[type[Method], ...] = (Iterative, Negotiated, Edit)


def line(method: type[Method]) -> str:
    """Return what a method does, in one line: the first of its docstring."""
    return inspect.cleandoc(method.__doc__ or "").splitlines()[0].replace("``", "").replace("`", "")


def needs(method: type[Method]) -> str:
    """Return what a method needs, and in brackets what it uses where there is some."""
    return ", ".join([*method.about.needs, *(f"({part})" for part in method.about.uses)])


def settings(method: type[Method]) -> dict[str, str]:
    """Return the settings of a method: name -> default as it is written in Python; those without one are required."""
    found = {}
    for field in dataclasses.fields(method):
        if field.default is not dataclasses.MISSING:
            found[field.name] = repr(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = repr(field.default_factory())
        else:
            found[field.name] = "required"
    return found


def page(methods: Mapping[str, type[Method]]) -> str:
    """Return the gallery as a page of Markdown for the docs."""
    rows = ["| name | class | year | paper | needs | what it does |", "|---|---|---|---|---|---|"]
    for name, method in methods.items():
        about = method.about
        arxiv = about.paper.removeprefix("arXiv:")
        where = f"[{about.authors}](https://arxiv.org/abs/{arxiv})" if arxiv != about.paper else about.paper
        cells = (f"`{name}`", f"[`{method.__name__}`](#{method.__name__.lower()})", str(about.year or ""), where)
        rows.append("| " + " | ".join((*cells, needs(method), line(method))) + " |")
    entries = [_entry(method) for method in methods.values()]
    return "\n".join([INTRODUCTION, "\n".join(rows), SHARED, *(_shared(base) for base in SHARING), *entries]) + "\n"


def _shared(base: type[Method]) -> str:
    return f"\n### {base.__name__}\n\n```text\n{inspect.cleandoc(base.__doc__ or '')}\n```"


def _entry(method: type[Method]) -> str:
    text = inspect.cleandoc(method.__doc__ or "")
    chosen = ", ".join(f"`{name}={default}`" for name, default in settings(method).items())
    title = f"## {method.__name__}\n\n**{method.about.title}** ({method.about.short})"
    return f"\n{title}\n\n```text\n{text}\n```\n\nSettings: {chosen}."
