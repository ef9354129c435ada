import re
from pathlib import Path

import pytest

from amnesty.requests.audit_schema import ANY, SHAPE, faults

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def keys(shape, path=""):
    if isinstance(shape, tuple | list):
        yield from keys(shape[0], path)
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            if key != ANY:
                yield key
            yield from keys(inner, f"{path}.{key}")


@pytest.mark.parametrize("key", sorted(set(keys(SHAPE))))
def test_every_key_is_documented(key):
    assert re.search(rf"`[\w.*]*\b{key}\b[\w.*]*`", PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (int, 3, True),
        (int, -1, 1.5),
        (float, 1, "1"),
        (float, 0.5, False),
        (bool, True, 1),
        (str, "", None),
        ((str, None), None, 3),
        ([int], [1, 2], [1, "2"]),
        ([int], [], {}),
        ({"a": int}, {"a": 1, "b": 2}, {"b": 2}),
        ({ANY: int}, {"x": 1}, {"x": None}),
        ({"a": {ANY: [str]}}, {"a": {}}, {"a": []}),
        (object, None, ...),
    ],
)
def test_types_are_told_apart(shape, good, bad):
    assert not list(faults({"it": good}, {"it": shape}))
    if bad is not ...:
        assert list(faults({"it": bad}, {"it": shape}))


def test_nothing_that_is_no_object_passes():
    for value in (None, [], "text", 3):
        assert list(faults(value)) == ["it must be an object"]
