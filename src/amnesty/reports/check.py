"""Checks of what a JSON file holds. They collect every fault of a file and report all of them at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from amnesty.errors import ReportError


class Checker:
    """Reads values by type from a parsed file; `finish` raises if anything was not as expected."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.faults: list[str] = []

    def fault(self, name: str, expected: str, found: object) -> None:
        """Note that `name` should have been `expected`."""
        text = repr(found)
        self.faults.append(f"`{name}` must be {expected}, found {text if len(text) <= 60 else text[:57] + '...'}")

    def finish(self) -> None:
        """Raise `ReportError` with all faults found so far, if there are any."""
        if self.faults:
            more = f"; and {len(self.faults) - 5} more faults" if len(self.faults) > 5 else ""
            raise ReportError(f"{self.where}: {'; '.join(self.faults[:5])}{more}.")

    def file(self, content: object, schema: int, named: bool = True) -> Mapping[str, Any]:
        """The content of a file, an object. Raises `ReportError` at once if it is of another schema.

        Files that are not ``named`` may leave their schema out.
        """
        data = self.mapping(content, "the file")
        found = data.get("schema", None if named else schema)
        if not self.faults and found != schema:
            raise ReportError(
                f"{self.where}: `schema` is {found!r}, but this version of Amnesty reads schema {schema}. Make the "
                "report with the version that wrote the file."
            )
        return data

    def mapping(self, value: object, name: str) -> Mapping[str, Any]:
        """A JSON object; a missing one is empty."""
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return {str(key): entry for key, entry in value.items()}
        self.fault(name, "an object", value)
        return {}

    def entries(self, value: object, name: str) -> list[Any]:
        """A list; a missing one is a fault, and empty."""
        if isinstance(value, list):
            return value
        self.fault(name, "a list", value)
        return []

    def text(self, value: object, name: str) -> str:
        """A string, or a whole number such as a class label; a missing one is empty."""
        if value is None:
            return ""
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        self.fault(name, "a string", value)
        return ""

    def whole(self, value: object, name: str) -> int | None:
        """A whole number or nothing."""
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        self.fault(name, "a whole number", value)
        return None

    def number(
        self, value: object, name: str, low: float = -math.inf, high: float = math.inf, unit: str = ""
    ) -> float | None:
        """A finite number in [low, high]; null and NaN become None."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(name, "a number", value)
            return None
        if not low <= value <= high or math.isinf(value):
            self.fault(name, unit or "a finite number", value)
            return None
        return float(value)
