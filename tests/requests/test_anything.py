"""Whatever a file holds: a request, or faults that are named; never another error."""

import pytest
from hypothesis import example as such
from hypothesis import given
from hypothesis import strategies as st

from amnesty.methods import METHODS
from amnesty.requests.checking import read_request
from amnesty.requests.example import example
from amnesty.requests.faults import RequestError
from amnesty.requests.vocabulary import FORGET, HOLDOUT, MODEL, SECTIONS, SIGN
from amnesty.requests.yaml_file import dump
from tests.requests.writing import request, write

KINDS = {key for kinds in (FORGET, HOLDOUT, MODEL, SIGN) for kind, beside in kinds.items() for key in (kind, *beside)}
MORE = "training holdout validation inputs size mean std preset tuned rule nash sum weights epochs lr recipe method"
keys = st.sampled_from([*SECTIONS, *KINDS, *MORE.split()]) | st.text(max_size=3)
words = st.sampled_from(
    ["munba", "omp", "retrain", "nash", ".", "..", "/", "~nobody", "a:b", "x.py:y", "no", "\x00", "cpu"]
)
singles = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | words
    | st.sampled_from([*METHODS])
)
values = st.recursive(
    singles, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=4), max_leaves=12
)


def tried(path, *overrides):
    for look in (False, True):
        try:
            found = read_request(path, overrides, look=look)
        except RequestError as error:
            said = error.faults
        else:
            said = (found.name,)
        assert said and all(line.isprintable() for line in said)


@given(st.dictionaries(st.sampled_from(SECTIONS), values))
@such({"model": {"run": "."}, "forget": {"sets": {"a": None}}, "method": {"name": None}})
@such({"model": {"import": "__main__:x"}, "data": {"training": {"import": "..:x"}}, "forget": {"indices": "x"}})
def test_any_values(tmp_path_factory, document):
    tried(write(tmp_path_factory.mktemp("any"), dump(document)))


@given(st.lists(st.tuples(st.lists(keys, min_size=1, max_size=4).map(".".join), values | words), max_size=3))
def test_any_overrides(tmp_path_factory, pairs):
    path = write(tmp_path_factory.mktemp("any"), request(method="method: {rule: nash}"))
    tried(path, *(f"{key}={dump({'x': value})[3:]}" for key, value in pairs))


@given(st.data())
def test_any_damage_to_a_right_request(tmp_path_factory, data):
    content = bytearray(example().encode())
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(content) - 1))
        end = start + data.draw(st.integers(0, 8))
        content[start:end] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"{", b"\n", b"- ", b": ", b"&a ", b"'"])
        )
    path = tmp_path_factory.mktemp("any") / "request.yaml"
    path.write_bytes(content)
    tried(path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"{", b"%YAML 9.9\n---\na: 1", b"\x00", b"? ", b"a: |9\n x", b"--- >\n"]
)
def test_odd_files(tmp_path, content):
    path = tmp_path / "request.yaml"
    path.write_bytes(content)
    with pytest.raises(RequestError):
        read_request(path)
