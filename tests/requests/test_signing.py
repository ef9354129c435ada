import json
import sys

import pytest

pytest.importorskip("model_signing.signing")  # of the extra `sign`

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from amnesty.errors import MissingExtraError
from amnesty.files import write_text
from amnesty.requests import signing
from amnesty.requests.request import SignSpec
from amnesty.requests.signing import (
    SigningError,
    check_sign,
    check_signature,
    fingerprint,
    public_key,
    sign,
    signature_facts,
)
from tests.requests.audited import every_flip, flipped, write_keys


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "keys").mkdir()
    return write_keys(tmp_path / "keys")


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for name in ("audit.json", "model/weights", ".gitignore"):
        write_text(run / name, name)
    return run


def pem(key, encryption=None):
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption or form.NoEncryption())


def test_what_was_signed_holds(folder, keys):
    sign(folder, SignSpec(key=keys[0]))
    assert check_signature(folder, key=keys[1]) == ""
    assert check_signature(folder, recorded=public_key(keys[0])) == ""


def test_it_still_holds_where_the_folder_was_moved(folder, keys, tmp_path):
    sign(folder, SignSpec(key=keys[0]))
    assert check_signature(folder.rename(tmp_path / "elsewhere"), key=keys[1]) == ""


@pytest.mark.parametrize("name", ["audit.json", "model/weights", ".gitignore"])
def test_a_changed_file_is_named(folder, keys, name):
    sign(folder, SignSpec(key=keys[0]))
    flipped(folder / name, 0)
    assert name in check_signature(folder, key=keys[1])


@pytest.mark.parametrize("name", ["new", ".gitattributes", "model/.git"])
def test_an_added_file_is_named(folder, keys, name):
    sign(folder, SignSpec(key=keys[0]))
    write_text(folder / name, "x")
    assert name in check_signature(folder, key=keys[1])


def test_a_missing_file_and_a_link_are_named(folder, keys):
    sign(folder, SignSpec(key=keys[0]))
    (folder / "model" / "weights").rename(folder.parent / "weights")
    assert "model/weights" in check_signature(folder, key=keys[1])
    (folder / "model" / "weights").symlink_to(folder.parent / "weights")
    assert "does not hold" in check_signature(folder, key=keys[1])


def test_every_changed_byte_of_the_signature_is_found(folder, keys):
    path = sign(folder, SignSpec(key=keys[0]))
    payload = json.loads(path.read_text())["dsseEnvelope"]["payload"]
    start = path.read_text().index(payload)
    positions = [
        *range(start),
        *range(start, start + len(payload), 11),
        *range(start + len(payload), path.stat().st_size),
    ]
    for position in every_flip(path, positions):
        assert check_signature(folder, recorded=keys[1].read_text()), position
    assert check_signature(folder, key=keys[1]) == ""


@pytest.mark.parametrize(
    "edit",
    [
        lambda b: b["dsseEnvelope"]["signatures"][0].update(keyid="mine"),
        lambda b: b.update(extra=1),
        lambda b: b["verificationMaterial"].update(x509CertificateChain={}),
        lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "", "keyid": ""}),
        lambda b: b["dsseEnvelope"].update(signatures=[]),
        lambda b: b["dsseEnvelope"].update(payload=7),
        lambda b: b.pop("verificationMaterial"),
    ],
)
def test_what_no_signature_covers_cannot_be_changed_either(folder, keys, edit):
    path = sign(folder, SignSpec(key=keys[0]))
    bundle = json.loads(path.read_text())
    edit(bundle)
    path.write_text(json.dumps(bundle, separators=(",", ":")))
    assert "changed" in check_signature(folder, key=keys[1])


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "[" * 10**5, "\udcff"])
def test_what_is_no_signature_says_so(folder, keys, text):
    (folder / "model.sig").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert check_signature(folder, key=keys[1])


def test_a_missing_one_says_so(folder, keys):
    assert "missing" in check_signature(folder, key=keys[1])


def test_another_key_is_told_apart(folder, keys):
    sign(folder, SignSpec(key=keys[0]))
    _, other = write_keys(keys[0].parent, "other")
    wrong = check_signature(folder, key=other)
    assert "another key" in wrong
    assert fingerprint(public_key(keys[0]))[:16] in wrong


def test_a_signature_of_less_than_the_folder_is_not_enough(folder, keys):
    from model_signing import hashing
    from model_signing import signing as library

    ignoring = hashing.Config().use_file_serialization()
    ignoring.set_ignored_paths(paths=["model.sig", "model"], ignore_git_paths=False)
    config = library.Config().set_hashing_config(ignoring).use_elliptic_key_signer(private_key=keys[0])
    config.sign(folder, folder / "model.sig")
    assert check_signature(folder, key=keys[1]) == "does not cover model/weights"


def test_the_record_names_the_key(keys):
    found = signature_facts(SignSpec(key=keys[0]))
    assert found == {"by": "key", "public_key": keys[1].read_text(), "fingerprint": fingerprint(keys[1].read_text())}
    assert "PRIVATE" not in str(found)
    assert signature_facts(None) is None
    assert signature_facts(SignSpec(sigstore=True)) == {"by": "sigstore", "public_key": None, "fingerprint": None}


def bad_keys():
    ordinary = ec.generate_private_key(ec.SECP256R1())
    public = ordinary.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return {
        "public": (public, "is no private key"),
        "rsa": (pem(rsa.generate_private_key(65537, 2048)), "elliptic curve"),
        "bitcoin": (pem(ec.generate_private_key(ec.SECP256K1())), "found secp256k1"),
        "encrypted": (pem(ordinary, form.BestAvailableEncryption(b"word")), "is encrypted"),
        "text": (b"not a key", "is no private key"),
        "empty": (b"", "is no private key"),
    }


@pytest.mark.parametrize("name", ["public", "rsa", "bitcoin", "encrypted", "text", "empty"])
def test_a_bad_key_is_refused_before_the_run(tmp_path, name):
    content, message = bad_keys()[name]
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(SigningError, match=message):
        check_sign(SignSpec(key=path))


def test_a_missing_key_is_refused_before_the_run(tmp_path):
    with pytest.raises(SigningError, match="cannot be read"):
        check_sign(SignSpec(key=tmp_path / "none.pem"))
    with pytest.raises(SigningError, match="cannot be read"):
        check_sign(SignSpec(key=tmp_path))


def test_one_way_of_signing_must_be_chosen(keys):
    for spec in (SignSpec(), SignSpec(key=keys[0], sigstore=True)):
        with pytest.raises(SigningError, match="one of them"):
            check_sign(spec)


def test_a_private_key_is_no_public_one(folder, keys):
    with pytest.raises(SigningError, match="is no public key"):
        check_signature(folder, key=keys[0])


def test_a_private_key_must_not_be_handed_on(folder, keys):
    inside = keys[0].rename(folder / "key.pem")
    with pytest.raises(SigningError, match="keep it elsewhere"):
        sign(folder, SignSpec(key=inside))
    assert not (folder / "model.sig").exists()


def test_nothing_to_check_with_is_refused(folder, keys):
    sign(folder, SignSpec(key=keys[0]))
    with pytest.raises(SigningError, match="give a public key"):
        check_signature(folder)


def test_without_the_package_the_extra_is_named(monkeypatch, keys):
    monkeypatch.setitem(sys.modules, "model_signing.signing", None)
    with pytest.raises(MissingExtraError, match=r"amnesty\[sign\]"):
        check_sign(SignSpec(key=keys[0]))


def test_sigstore_out_of_reach_is_one_line(monkeypatch, folder):
    class Config:
        def use_sigstore_signer(self, **_):
            raise ConnectionError("no route\nto host")

    monkeypatch.setattr(signing, "_library", lambda _: type("library", (), {"Config": Config}))
    with pytest.raises(SigningError, match=r"sigstore cannot be used here \(no route to host\)"):
        check_sign(SignSpec(sigstore=True))
