"""What must not lie where a result goes; most of it is in the table of malformed requests."""

import pytest

from amnesty.requests.checking import read_request
from amnesty.requests.faults import RequestError
from tests.requests.writing import furnish, request, write


@pytest.fixture
def folder(tmp_path):
    furnish(tmp_path)
    return tmp_path


@pytest.mark.parametrize("target", ["nowhere/at/all", "result"], ids=["nowhere", "circle"])
def test_links_that_lead_nowhere(folder, target):
    (folder / "result").symlink_to(target)
    with pytest.raises(RequestError, match="`out` must be a folder, but .* is a link that leads nowhere"):
        read_request(write(folder, request(out="out: result")))


def test_links_to_folders_lead_there(folder):
    (folder / "empty").mkdir()
    (folder / "result").symlink_to("empty")
    assert read_request(write(folder, request(out="out: result"))).out == folder / "result"
    (folder / "inside").symlink_to("images/cat")
    text = request(data="data: {training: {images: images}}", out="out: inside")
    with pytest.raises(RequestError, match="`out` must not be in what is read"):
        read_request(write(folder, text))


def test_files_that_are_links_in_a_circle(folder):
    (folder / "loop.pt").symlink_to("loop.pt")
    with pytest.raises(RequestError, match="`reference` must be a file") as found:
        read_request(write(folder, request(r="reference: loop.pt")))
    assert len(found.value.faults) == 1
