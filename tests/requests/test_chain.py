import json
import shutil

import pytest

from amnesty.files import write_text
from amnesty.requests.audit import AuditError, read_audit, write_audit
from amnesty.requests.chain import ChainError, Earlier, forgotten_before, read_earlier
from amnesty.requests.digests import canonical, described, file_hash
from amnesty.requests.forgotten import Forgotten, find_hashes, hashes_of
from amnesty.requests.links import Link, broken_links
from amnesty.requests.verifying import verify
from tests.requests import audited
from tests.requests.audited import copied, flipped
from tests.requests.test_audit import rewritten


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("chain")
    first = audited.run(root / "1", range(20), "user")
    second = audited.run(root / "2", range(20, 35), "user", start=first)
    audited.run(root / "3", range(35, 45), "last", start=second)
    return root


@pytest.fixture
def root(made, tmp_path):
    """The three folders at another place, where their requests find each other."""
    for name in "123":
        copied(made / name, tmp_path / name)
    for name, before in (("2", "1"), ("3", "2")):
        move(tmp_path / name, tmp_path / before)
    return tmp_path


def move(folder, parent):
    """Let a run's request name another folder, as if it had been run there."""
    request = (folder / "request.yaml").read_text()
    old = next(line for line in request.splitlines() if "run:" in line)
    write_text(folder / "request.yaml", request.replace(old, f"  run: {parent}"))
    audit = read_audit(folder)
    rewritten(folder, files=audit["files"] | {"request.yaml": described(folder / "request.yaml")})
    for later in sorted(folder.parent.iterdir()):
        if later.name > folder.name:
            chain = read_audit(later)["chain"]
            chain[int(folder.name) - 1]["audit_sha256"] = file_hash(folder / "audit.json")
            rewritten(later, chain=chain)


def problems(folder):
    return "\n".join(verify(folder).problems)


def test_a_chain_of_three_holds(root):
    found = verify(root / "3")
    assert found.ok, found.problems
    assert any(str(root / "2") in line for line in found.checked)
    chain = read_audit(root / "3")["chain"]
    assert [link["name"] for link in chain] == ["user", "user"]
    assert [link["audit_sha256"] for link in chain] == [file_hash(root / n / "audit.json") for n in "12"]
    assert chain[0]["model_after"] == chain[1]["model_before"]
    assert chain[0]["known"]["membership_auc"] > 0.8


def test_what_was_forgotten_is_known_to_the_end(root):
    found = forgotten_before(root / "3")
    assert {name: len(hashes) for name, hashes in found.items()} == {"user": 20, "user (2)": 15, "last": 10}
    data = hashes_of(audited.training())
    assert set(found["user (2)"]) == set(data[20:35])
    assert find_hashes({"all": audited.training()}, read_earlier(root / "3").hashes)["all"].tolist() == list(
        range(45)
    )


def test_what_was_forgotten_is_not_taught_again(root):
    assert read_audit(root / "3")["data"]["parts"]["retain"]["count"] == 90 - 45


def test_a_chain_can_be_checked_without_the_earlier_folders(root):
    shutil.rmtree(root / "1")
    shutil.rmtree(root / "2")
    found = verify(root / "3")
    assert found.ok and any("not at hand" in line for line in found.unchecked)
    document = json.loads((root / "3" / "forgotten_before.json").read_text())
    document["runs"][0]["sets"]["forget"].pop()
    write_text(root / "3" / "forgotten_before.json", canonical(document))
    files = read_audit(root / "3")["files"]
    rewritten(root / "3", files=files | {"forgotten_before.json": described(root / "3" / "forgotten_before.json")})
    assert "the forgotten examples listed for 'user' are not those" in problems(root / "3")


class TestABrokenChain:
    def test_a_parent_with_a_changed_file_is_refused_and_named(self, root):
        flipped(root / "2" / "model.safetensors", 3000)
        with pytest.raises(ChainError, match=r"model\.safetensors: was changed"):
            read_earlier(root / "2")
        with pytest.raises(ChainError, match=r"model\.safetensors"):
            audited.run(root / "4", range(50, 60), start=root / "2")
        assert not (root / "4" / "audit.json").exists()
        assert f"{root / '2'}: model.safetensors: was changed" in problems(root / "3")

    def test_so_is_one_further_up(self, root):
        flipped(root / "1" / "scores.json", 100)
        assert "scores.json: was changed" in problems(root / "3")
        with pytest.raises(ChainError, match="scores.json"):
            read_earlier(root / "3")

    def test_a_parent_with_a_new_record_is_found_by_its_child(self, root):
        rewritten(root / "1", holdout_protocol="another")
        assert verify(root / "1").ok
        for name in "23":
            assert f"{root / '1' / 'audit.json'}: is not the record that the chain names" in problems(root / name)

    def test_a_whole_other_run_in_the_place_of_the_parent(self, root):
        shutil.rmtree(root / "1")
        audited.run(root / "1", range(60, 80), "user")
        assert "it was replaced" in problems(root / "2")

    def test_a_model_that_was_swapped_in_between(self, root, tmp_path):
        earlier = read_earlier(root / "2")
        earlier.check_start(read_audit(root / "2")["model"]["after"]["tensors"])
        with pytest.raises(ChainError, match="was changed in between"):
            earlier.check_start(read_audit(root / "1")["model"]["after"]["tensors"])

    def test_a_record_that_tells_the_past_otherwise(self, root):
        chain = read_audit(root / "2")["chain"]
        chain[0]["known"]["membership_auc"] = 0.5
        rewritten(root / "2", chain=chain)
        assert "says of 'user' what is not in" in problems(root / "2")

    def test_a_shortened_chain(self, root):
        rewritten(root / "3", chain=read_audit(root / "3")["chain"][1:])
        assert "the chain names 1 earlier requests, the forgotten examples are those of 2" in problems(root / "3")
        rewritten(root / "3", chain=[])
        assert "the chain names 0 earlier requests" in problems(root / "3")

    def test_a_chain_that_bites_its_tail(self, root):
        write_text(root / "3" / "request.yaml", f"name: last\nseed: 0\nmodel:\n  run: {root / '3'}\n")
        files = read_audit(root / "3")["files"] | {"request.yaml": described(root / "3" / "request.yaml")}
        rewritten(root / "3", files=files)
        assert "stands in it twice" in problems(root / "3")

    def test_an_unfinished_parent_is_refused(self, tmp_path):
        with pytest.raises(AuditError, match="no audit.json"):
            read_earlier(tmp_path)


def test_an_empty_past_has_no_links():
    assert Earlier().names == () and Earlier().hashes == frozenset()
    Earlier().check_start("anything")
    assert list(broken_links([], "a", ())) == []


def test_links_survive_their_document():
    link = Link(
        name="a",
        audit_sha256="1",
        model_before="2",
        model_after="3",
        forgotten=4,
        forgotten_sha256="5",
        ended="6",
        forgotten_classes=(7,),
        known={"membership_auc": 0.9},
    )
    assert Link.of(json.loads(json.dumps(link.document))) == link


def test_a_record_with_a_chain_that_does_not_fit_is_not_written(root):
    folder = root / "3"
    write_text(folder / "forgotten_before.json", canonical({"schema": 1, "runs": [Forgotten("x", {}).document]}))
    (folder / "audit.json").unlink()
    from tests.requests.test_audit import FACTS

    with pytest.raises(AuditError, match="another request|chain of requests"):
        write_audit(folder, FACTS)
    assert not (folder / "audit.json").exists()
