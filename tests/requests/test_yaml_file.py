import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amnesty.requests.faults import Faults, Origin, RequestError
from amnesty.requests.yaml_file import DEEPEST, LARGEST, Node, dump, read_file, read_text

ORIGIN = Origin("request.yaml", Path("/"))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
singles = (
    st.none() | st.booleans() | numbers | texts | st.sampled_from(["no", "1e-3", "0777", "2024-01-01", "~", "1:30"])
)
values = st.recursive(singles, lambda v: st.lists(v, max_size=4) | st.dictionaries(texts.filter(bool), v, max_size=4))


def plain(node: Node):
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    return [plain(value) for value in node.value] if isinstance(node.value, list) else node.value


def faults_of(text):
    faults = Faults()
    read_text(text, ORIGIN, faults)
    with pytest.raises(RequestError) as found:
        faults.refuse()
    return found.value.faults


@given(st.dictionaries(texts.filter(bool), values, max_size=5))
def test_what_is_dumped_is_read_back(document):
    faults = Faults()
    found = plain(read_text(dump(document), ORIGIN, faults))
    faults.refuse()
    assert found == document
    assert repr(found) == repr(document)  # 1, 1.0 and True are equal


def test_a_dump_means_the_same_to_other_readers():
    document = {"classes": ["no", "1e-3", "0777", "2024-01-01", 3, True, None], "same": [[1, 2]] * 2}
    assert yaml.safe_load(dump(document)) == document


def test_every_value_has_the_line_of_its_key():
    node = read_text("a: 1\nb:\n  c: [x,\n    y]\n  d: |\n    text\n", ORIGIN, Faults())
    b = node.value["b"]
    assert [node.value["a"].place.line, b.place.line, b.value["c"].place.line, b.value["d"].place.line] == [
        1,
        2,
        3,
        5,
    ]
    assert [item.place.line for item in b.value["c"].value] == [3, 4]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: &x 2\n", 2, "anchor &x"),
        ("a: 1\n\nb: *x\n", 3, "alias *x"),
        ("a: !!str 1\n", 1, "tag !!str"),
        ("a:\n- !mine {}\n", 2, "tag !mine"),
        ("a: ! 1\n", 1, "tag !"),
        ("a: 1\nb: 2\na: 3\n", 3, "`a` is given twice, first in line 1"),
        ("x:\n  a: 1\n  a: 2\n", 3, "`x.a` is given twice, first in line 2"),
        ("a: 1\n---\nb: 2\n", 2, "one document"),
        ("a: [1, 2\n", 2, "This is not YAML"),
        ("a:\n\t- 1\n", 2, "This is not YAML"),
        ("a: 1\nb: '\x07'\n", 2, r"character '\x07'"),
        ("a: " + "[" * (DEEPEST + 1), 1, f"nested {DEEPEST} deep"),
        ("a: " + "{a: " * 400_000, 1, f"nested {DEEPEST} deep"),
        ("1: a\n", 1, "A key must be text, found 1"),
        ("a: 1\n? [b]\n: 2\n", 2, "A key must be text, found a list"),
        ("a: 1\n~: 2\n", 2, "A key must be text, found nothing"),
        ("on: 2\n", 1, "A key is on"),
        ("a: {off: 2}\n", 1, "A key of `a` is off"),
        ("a:\n- x\n- no\n", 3, "`a[1]` is no, which some YAML readers take for true or false"),
        ("a: {b: 0777}\n", 1, "`a.b` is 0777, which some YAML readers take for an octal number"),
    ],
)
def test_what_a_request_has_no_use_for_is_refused_with_its_line(text, line, said):
    (fault,) = faults_of(text)
    assert fault.startswith(f"request.yaml:{line}: ") and said in fault


def test_a_bomb_of_aliases_is_never_built():
    bomb = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [*{m}, *{m}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    found = faults_of(bomb)
    assert len(found) == 9 + 8  # every anchor; the two aliases of a line are one fault
    assert all("is not allowed" in fault for fault in found)


def test_the_parser_without_the_c_library_says_the_same(monkeypatch):
    text = "a: &x 2\nb: !!str 3\nc: no\n"
    fast = faults_of(text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert faults_of(text) == fast
    (half,) = faults_of('a: "\\ud800"\n')
    assert "half a character" in half


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"", 1, "The file is empty"),
        (b"# nothing\n", 1, "The file is empty"),
        (b"---\n", 1, "The file is empty"),
        (b"a: 1\nb: \xff\n", 2, "must be UTF-8 text"),
        ("a: 1\n".encode("utf-16"), 1, "must be UTF-8 text"),
        (b"- 1\n- 2\n", 1, "must be a mapping such as `model: ...`, found a list"),
        (b"# note\nforget everything\n", 2, "found 'forget everything'"),
        (b"a: " + b"x" * LARGEST, 1, "1,048,576 bytes at most"),
    ],
)
def test_a_file_must_hold_one_mapping(tmp_path, content, line, said):
    path = tmp_path / "request.yaml"
    path.write_bytes(content)
    faults = Faults()
    read_file(path, Origin("request.yaml", tmp_path), faults)
    with pytest.raises(RequestError) as found:
        faults.refuse()
    (fault,) = found.value.faults
    assert fault.startswith(f"request.yaml:{line}: ") and said in fault


def test_a_byte_order_mark_and_a_file_of_the_greatest_size_are_read(tmp_path):
    path = tmp_path / "request.yaml"
    content = b"\xef\xbb\xbfa: 1\n#"
    path.write_bytes(content + b"x" * (LARGEST - len(content)))
    assert plain(read_file(path, ORIGIN, Faults())) == {"a": 1}


def test_a_missing_file_and_a_folder_are_faults(tmp_path):
    for path, said in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "not a file")):
        faults = Faults()
        read_file(path, Origin("it", tmp_path), faults)
        with pytest.raises(RequestError, match=said):
            faults.refuse()


def test_infinity_is_read_but_can_be_told():
    assert math.isinf(read_text("a: .inf", ORIGIN, Faults()).value["a"].value)
