import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from amnesty.errors import MissingExtraError, ReportError
from amnesty.reports import write_request_report
from amnesty.reports.words import DASH, SPACE
from tests.reports.request_folders import FACTS, HASH, LATER, history, write
from tests.reports.test_page import EVIL, Page


def page_of(folder, **options):
    return Page(write_request_report(folder, **options).read_text(encoding="utf-8"))


def rows(page_text):
    return [re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", row)).strip() for row in page_text.split("<tr>")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run whose forget set became like unseen data, without a retrained model."""
    folder = write(tmp_path_factory.mktemp("runs") / "plain")
    return write_request_report(folder).read_text(encoding="utf-8"), folder


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """A second request of a chain, with a retrained model, half forgotten, with warnings and two forget sets."""
    facts = {**LATER, "tuned": True, "self_tuned": False, "warnings": ["The tracker wandb failed at step 7."]}
    facts |= {"duplicates": {"action": "keep", "counts": {"retain": {"exact": 3}}}}
    lines = history(players=("user-7", "user-9", "retain"))
    folder = write(tmp_path_factory.mktemp("runs") / "later", facts, 1.5, reference=True, lines=lines)
    return Page(write_request_report(folder).read_text(encoding="utf-8"))


def test_the_page_tells_what_was_asked_done_and_found(plain):
    text = Page(plain[0]).text.replace(SPACE, " ")
    for expected in (
        "Asked: the examples whose user_id is 7",
        "Done: MUNBa, which chose its step size and when to stop by itself.",
        "No trace was found of what was to be forgotten; whether what is to stay is kept is open.",
        "Of the examples to forget, the model recognised 100.00 % before and recognises 83.00 % after MUNBa.",
        "membership not detected membership AUC 0.494",
        "4 copies of what was to be forgotten were found elsewhere in the data. Copies in what was to be kept were",
        "retain 2 1",
        f"holdout 1 {DASH}",
        "Examples forgotten 200",
        "Examples in retain 1 800",
        "12.5 s in 2 sittings",
        "2031-02-03T04:05:06Z",
        f"Model after: sha256 {HASH[::-1]}",
        "Settings: the defaults, as the request gave none",
        "rule.nash.length fading",
        "300 of the 600 examples of test.parquet",
        "torch 2.13.0",
        "name: user-7",
        "amnesty verify .",
        "A stronger attack may find what these tests do not.",
        "No model that was retrained without the examples was at hand",
    ):
        assert expected in text
    assert "Earlier requests" not in text
    assert "To be known" not in text


def test_numbers_stand_with_their_intervals(plain):
    found = next(row for row in rows(plain[0]) if row.startswith("Forget accuracy"))
    content = json.loads((plain[1] / "scores.json").read_text())["methods"]
    before, after = content["original"], content["munba"]
    expected = [
        f"{100 * own[f'forget_accuracy{end}']:.2f}" for own in (before, after) for end in ("", "_low", "_high")
    ]
    assert re.findall(r"\d+\.\d\d", found) == expected


def test_the_retrained_model_stands_last(later):
    assert "Measure Original MUNBa Retrained" in later.text
    assert "Measure, as recorded Original MUNBa Retrained" in later.text
    assert "Beside the retrained model: partly forgotten;" in later.text
    assert "No model that was retrained" not in later.text


def test_a_chain_warnings_and_copies_that_were_kept(later):
    for expected in (
        "There are traces left of what was to be forgotten",
        "Done: MUNBa, with the settings of the request.",
        "The tracker wandb failed at step 7.",
        f"user-3 {HASH} 50 2031-01-01T00:00:00Z",
        "user-3 not detected AUC 0.50 [0.45, 0.55]",
        "user-1 not at hand none of its examples are in the data",
        "They were left where they are: what is said of forgetting is weaker for it.",
        "Copies of forgotten examples are still in the data",
        "Whether what was forgotten earlier stayed forgotten is not known of: user-1.",
    ):
        assert expected in later.text


def test_figures_show_margins_every_player_and_the_rounds(later):
    assert later.tags.count("svg") == 7  # margins, three of the players, cosine, length, rounds
    for expected in ("never seen (300)", "After MUNBa", "user-9", "Cosine of the two gradients", "by round"):
        assert expected in later.text
    assert "1 11 0.4 0 2 22 0.2 0" in later.text


def test_files_stand_with_their_hashes(plain):
    text, folder = plain
    for path in folder.iterdir():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (digest in text) == (path.name != "report.html")


def test_nothing_comes_from_the_network_and_links_lead_somewhere(plain):
    page = Page(plain[0])
    assert all(link.startswith("#") for link in page.links)
    assert "script" not in page.tags
    assert "http" not in plain[0].replace("http-equiv", "")
    assert "default-src 'none'" in plain[0]
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_texts_of_the_request_stay_texts(tmp_path):
    facts = dict.fromkeys(("name", "asked", "device", "precision", "started", "ended", "holdout_protocol"), EVIL)
    facts |= {key: {EVIL: EVIL} for key in ("settings", "model_before", "model_after", "versions")}
    facts |= {"counts": {EVIL: 1}, "duplicates": {"action": EVIL, "counts": {EVIL: {EVIL: 1}}}, "warnings": [EVIL]}
    facts |= {"chain": [{EVIL: EVIL}], "rechecked": [{"name": EVIL, "answer": EVIL, "reason": EVIL}]}
    lines = history(players=(EVIL, "retain $x^2$"))
    lines[10][EVIL] = 1.0
    page = page_of(write(tmp_path, facts, lines=lines, request=f"forget: '{EVIL}'\n</pre>{EVIL}"))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text.count("<script>alert(1)</script>") > 20


def test_an_unfinished_html_in_the_request_does_not_end_the_page(tmp_path):
    page = page_of(write(tmp_path, request="</pre></details></main><b>"))
    assert "What this does not prove" in page.text


def test_the_same_files_give_the_same_bytes_and_an_audited_page_is_left_alone(tmp_path):
    folder = write(tmp_path / "run")
    path = write_request_report(folder)
    before = path.read_bytes()
    (folder / "audit.json").write_text("{}")
    (folder / "model.sig").write_text("{}")
    stamp = path.stat().st_mtime_ns
    assert write_request_report(folder) == path
    assert path.stat().st_mtime_ns == stamp
    moved = folder.rename(tmp_path / "elsewhere")
    other = write_request_report(moved, out=tmp_path / "page.html")
    assert other.read_bytes() == before


def test_another_page_over_an_audited_one_is_refused_unless_forced(tmp_path):
    folder = write(tmp_path / "run")
    path = write_request_report(folder)
    before = path.read_bytes()
    (folder / "audit.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(ReportError, match=r"would differ from the one that audit.json .*`--out`.*`--force`"):
        write_request_report(folder)
    assert path.read_bytes() == before
    assert write_request_report(folder, out=tmp_path / "new.html").read_bytes() != before
    assert write_request_report(folder, force=True).read_bytes() != before
    with pytest.raises(ReportError, match=r"is audited: its run\.json stays as it is"):
        write_request_report(folder, FACTS)


def test_facts_are_stored_so_that_the_page_can_be_made_again(tmp_path):
    folder = write(tmp_path)
    (folder / "run.json").unlink()
    first = write_request_report(folder, FACTS).read_bytes()
    assert json.loads((folder / "run.json").read_text()) == {**FACTS, "schema": 1}
    assert write_request_report(folder).read_bytes() == first


def test_little_is_enough(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps({"schema": 1, "methods": {"original": {}, "munba": {}}}))
    page = page_of(tmp_path, facts={"name": "a"})
    assert "Not measured." in page.text
    assert "Copies of what was to be forgotten were not searched for." in page.text
    assert "svg" not in page.tags


def test_answers_of_one_value_and_numbers_that_are_missing(tmp_path):
    from amnesty.evaluation import Answers, write_answers

    folder = write(tmp_path, lines=[{"step": 1, "forget_loss": None, "retain_loss": float("nan")}, {"step": 2}])
    label = np.zeros(4, dtype=np.int64)
    same = Answers(label, label, *(np.ones(4) for _ in range(3)))
    write_answers(folder / "answers.parquet", {"munba": {"forget": same, "holdout": same}})
    page = page_of(folder)
    assert page.tags.count("svg") == 1
    assert "The negotiation" not in page.text


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("run.json", "{", r"run\.json, line 1: not valid JSON"),
        ("run.json", "[]", r"run\.json: `the file` must be an object"),
        ("run.json", '{"schema": 9, "name": "a"}', r"run\.json: `schema` is 9"),
        ("run.json", "{}", r"run\.json: `name` must be the request's name, found None"),
        (
            "run.json",
            '{"name": "a", "chain": {}, "seed": "x"}',
            "`seed` must be a whole number.*`chain` must be a list",
        ),
        ("run.json", '{"name": "a", "seconds": -1}', "`seconds` must be"),
        ("scores.json", "{}", r"scores\.json: `schema` is None"),
        ("history.jsonl", '{"step": 1}\n{"epoch": 1}\n', r"history\.jsonl, line 2: `step` must be a whole number"),
        ("history.jsonl", "\x00", r"history\.jsonl, line 1: not valid JSON"),
        ("answers.parquet", "PAR1", r"answers\.parquet cannot be read as Parquet"),
        ("request.yaml", b"\xff\xfe", r"request\.yaml cannot be read"),
    ],
)
def test_files_that_cannot_be_understood_are_named(tmp_path, file, content, says):
    folder = write(tmp_path)
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=says):
        write_request_report(folder)
    assert not (folder / "report.html").exists()


def test_a_folder_without_facts_or_scores_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"run\.json cannot be read"):
        write_request_report(tmp_path)
    with pytest.raises(ReportError, match=r"scores\.json cannot be read"):
        write_request_report(tmp_path, {"name": "a"})


def test_bad_facts_are_refused_before_they_are_written(tmp_path):
    with pytest.raises(ReportError, match="`facts`: `seed` must be a whole number"):
        write_request_report(tmp_path, {"name": "a", "seed": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_out_must_not_be_a_folder(tmp_path):
    with pytest.raises(ReportError, match="`out` must be the path of a file"):
        write_request_report(write(tmp_path), out=tmp_path)


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"`{package}`.*amnesty\[report\]"):
        write_request_report(write(tmp_path))


def test_importing_needs_no_extra():
    check = "import sys, amnesty.reports; assert not {'matplotlib', 'jinja2', 'pyarrow', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
