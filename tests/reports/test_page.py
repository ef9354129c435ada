import base64
import html.parser
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from amnesty.errors import MissingExtraError, ReportError
from amnesty.reports import write_report
from amnesty.reports.images import png_uri
from amnesty.reports.words import DASH
from tests.reports.folders import examples, history, scores, write

EVIL = '<script>alert(1)</script><img src="http://evil.example/x" onerror="alert(2)">'


class Page(html.parser.HTMLParser):
    """Tags, ids, links and visible text of a page; fails on tags that do not match."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "use", "path"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.words, self.open = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[key] for key in ("src", "href", "xlink:href") if key in attributes]
        assert not any(key.startswith("on") for key in attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three scenarios, as of the demo."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("class", "random", "poisoned"):
        content = scores()
        content["scenario"] |= {"name": name, "title": f"Forget {name}"}
        write(folder / name, content, history(), examples(wrong=name == "poisoned"))
    return folder


@pytest.fixture(scope="module")
def text(study):
    path = write_report(study)
    assert path == study / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_same_files_give_the_same_bytes(study, text, tmp_path):
    again = write_report(study, tmp_path / "new" / "page.html")
    assert again.read_text(encoding="utf-8") == text


def test_nothing_comes_from_the_network(text):
    page = Page(text)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "script" not in page.tags
    assert "default-src 'none'" in text


def test_ids_are_unique_and_links_lead_somewhere(text):
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_a_first_time_reader_finds_everything(text):
    page = Page(text)
    for expected in (
        "Unlearning",
        "Lower is not better",
        "Forget every 3.",
        "Scenario 2 of 3",
        "the target",
        "★ nearest",
        "Brand new method",
        "Pareto front",
        "Labelled 7, truly 3",
        "corrected",
        "as retrained",
        "In 1 of 40 steps no deal was possible.",
        "What the columns mean",
        "seed 0, device cpu, torch 2.9.0",
        "retain 1 100",
    ):
        assert expected in page.text
    assert page.tags.count("svg") == 9
    assert text.count('role="img"') == 9
    assert page.tags.count("img") == text.count('alt="A forgotten image.') == 9


def test_a_page_stays_small(tmp_path):
    shown = examples(4, (100, 80, 3))  # random pixels, the worst there is
    shown["examples"] *= 7
    path = write_report(write(tmp_path, steps=history(3000), shown=shown))
    assert path.stat().st_size < 650_000  # hence three scenarios in less than 2 MB
    page = Page(path.read_text(encoding="utf-8"))
    assert page.tags.count("img") == 24
    assert "Of the 24 shown" in page.text


def test_texts_from_files_stay_texts(tmp_path):
    content = scores()
    content["scenario"] |= {"title": EVIL, "asked": EVIL, "setting": EVIL, "name": EVIL, "counts": {EVIL: 3}}
    content |= {"device": EVIL, "versions": {EVIL: EVIL}}
    content["methods"][EVIL] = {"forget_accuracy": 0.3, "holdout_accuracy": 0.4, EVIL: 1.0}
    shown = examples(1)
    shown["method"] = EVIL
    shown["examples"][0] |= {"label": EVIL, "true_label": EVIL + "2", "after": {"label": EVIL}}
    page = Page(write_report(write(tmp_path, content, history(), shown)).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert "<script>alert(1)</script>" in page.text


def test_a_single_scenario(tmp_path):
    text = write_report(write(tmp_path, steps=history(), shown=examples())).read_text(encoding="utf-8")
    page = Page(text)
    assert "<h1>Forget one class</h1>" in text
    assert "Scenario 1 of" not in page.text


def test_missing_numbers_are_dashes(tmp_path):
    content = scores()
    content["methods"]["munba"] = {"forget_accuracy": float("nan"), "seconds": None}
    text = write_report(write(tmp_path, content)).read_text(encoding="utf-8")
    row = re.search(r"MUNBa.*?</tr>", text, flags=re.DOTALL)[0]
    assert re.findall(r"<td>(.*?)</td>", row) == [DASH] * 7


@pytest.mark.parametrize(
    "content",
    [
        {"schema": 1, "methods": {"munba": {}}},
        {"schema": 1, "methods": {"original": {"forget_accuracy": 1.0}}},
        {"schema": 1, "reference": "retrain", "methods": {"retrain": {"forget_accuracy": 0.0, "seconds": 0.0}}},
        {
            "schema": 1,
            "reference": "original",
            "methods": {"original": {"forget_accuracy": 0.0}, "m": {"seconds": 0}},
        },
    ],
)
def test_little_is_enough(tmp_path, content):
    Page(write_report(write(tmp_path, content)).read_text(encoding="utf-8"))


def test_without_a_reference_the_page_says_so(tmp_path):
    page = Page(write_report(write(tmp_path, scores(reference=None), history(), examples())).read_text("utf-8"))
    assert "There is no retrained model to compare with" in page.text


def test_unusual_characters(tmp_path):
    content = scores()
    content["scenario"]["title"] = "half a pair: \ud800, null: \u0000, \N{CJK UNIFIED IDEOGRAPH-6C38}"
    assert "half a pair: ?" in write_report(write(tmp_path, content)).read_text(encoding="utf-8")


def test_a_failure_leaves_the_old_page_and_nothing_else(tmp_path, monkeypatch):
    write(tmp_path)
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_report(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "scores.json"]
    assert (tmp_path / "report.html").read_text() == "old"


def test_out_must_not_be_a_folder(tmp_path):
    with pytest.raises(ReportError, match="`out` must be the path of a file"):
        write_report(write(tmp_path), tmp_path)


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"`{package}`.*amnesty\[report\]"):
        write_report(write(tmp_path))


def test_importing_needs_no_extra():
    check = "import sys, amnesty.reports; assert not {'matplotlib', 'jinja2', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (6, 7, 3)])
def test_images_keep_their_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = base64.b64decode(png_uri(pixels).removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
