"""A signature over the whole folder of a run, by the `model-signing` library."""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amnesty.errors import InvalidInputError, MissingExtraError, one_line
from amnesty.files import whole
from amnesty.requests.digests import SIGNATURE, WORKING, contents, parsed, read_text, shown
from amnesty.requests.request import SignSpec

CURVES = ("secp256r1", "secp384r1", "secp521r1")


class SigningError(InvalidInputError):
    """A key that cannot be used, or a signature that cannot be made."""


def check_sign(spec: SignSpec) -> None:
    """Raise unless a result can be signed as asked; to be called before a run.

    For sigstore its servers are asked for their certificates, which fails where there is no network.

    Raises:
        MissingExtraError: model-signing is not installed.
        SigningError: both ways are asked for, or none; the key is no private key of a known curve, or is encrypted;
            sigstore cannot be reached.
    """
    if (spec.key is None) == (not spec.sigstore):
        raise SigningError("`sign` needs a `key` (a private key file) or `sigstore: true`, one of them.")
    if spec.key is not None:
        public_key(spec.key)
    _signer(spec)


def signature_facts(spec: SignSpec | None) -> dict[str, Any] | None:
    """Return what audit.json says of the signature to come: by whom, and the public key where there is one."""
    if spec is None:
        return None
    if spec.key is None:
        return {"by": "sigstore", "public_key": None, "fingerprint": None}
    pem = public_key(spec.key)
    return {"by": "key", "public_key": pem, "fingerprint": fingerprint(pem)}


def fingerprint(public_pem: str) -> str:
    """Return the SHA-256 (hex) of a public key in PEM, by which people can compare keys."""
    return hashlib.sha256(public_pem.encode()).hexdigest()


def public_key(private: Path) -> str:
    """Return the public key, in PEM, of a private key file.

    Raises:
        MissingExtraError: model-signing is not installed.
        SigningError: see `check_sign`.
    """
    _library("signing")
    from cryptography.hazmat.primitives import serialization

    content = _read(private)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise SigningError(
            f"The key {private} is encrypted, and nobody is there to type its password. Give one that is not: "
            f"`openssl ec -in {private.name} -out plain.pem` writes it."
        ) from error
    except ValueError as error:
        raise SigningError(
            f"{private} is no private key in PEM. Make one with `openssl ecparam -name prime256v1 -genkey -noout "
            "-out private.pem`."
        ) from error
    return _pem(private, key.public_key())


def read_public_key(path: Path) -> str:
    """Return a public key file in the form that audit.json records. Raises as `public_key`."""
    _library("verifying")
    from cryptography.hazmat.primitives import serialization

    content = _read(path)
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError as error:
        raise SigningError(
            f"{path} is no public key in PEM. That of a private key is written by `openssl ec -in private.pem "
            "-pubout -out public.pem`."
        ) from error
    return _pem(path, key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningError(f"The key {path} cannot be read: {error.strerror or error}.") from error


def _pem(path: Path, key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    curve = getattr(getattr(key, "curve", None), "name", type(key).__name__)
    if curve not in CURVES:
        raise SigningError(f"{path} must be a key of an elliptic curve, {' or '.join(CURVES)}; found {curve}.")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem: bytes = key.public_bytes(serialization.Encoding.PEM, form)
    return pem.decode()


def sign(folder: Path, spec: SignSpec) -> Path:
    """Sign all files of a finished run, audit.json among them; write model.sig, whole or not at all.

    Raises:
        MissingExtraError, SigningError: as `check_sign`; the key lies in the folder; or nothing was signed.
        OSError: the folder cannot be written to.
    """
    check_sign(spec)
    if spec.key is not None and spec.key.resolve().is_relative_to(folder.resolve()):
        raise SigningError(
            f"The private key {spec.key} lies in {folder}, which is to be handed on: keep it elsewhere."
        )
    with whole(folder / SIGNATURE) as temporary:
        try:
            _signer(spec).set_hashing_config(_hashing()).sign(folder, temporary)
        except Exception as error:  # of the library's, of sigstore's, of the network's
            raise SigningError(f"{folder} could not be signed: {one_line(error, named=False)}") from error
        # One form only, so that no byte of the file can change unseen.
        text = json.dumps(json.loads(temporary.read_text(encoding="utf-8")), separators=(",", ":"))
        wrong = _loose(text, None if spec.key is None else public_key(spec.key))
        if wrong:
            raise SigningError(f"This version of model-signing is not known to Amnesty: its signature {wrong}.")
        temporary.write_text(text, encoding="utf-8")
    return folder / SIGNATURE


def check_signature(
    folder: Path,
    *,
    key: Path | None = None,
    recorded: str | None = None,
    identity: str | None = None,
    issuer: str | None = None,
) -> str:
    """Return what is wrong with the signature of a folder; nothing where it holds for every file.

    Args:
        folder: of a run.
        key: public key file that must have signed.
        recorded: else the public key (PEM) that the record names: then all that is known is that nothing changed
            since its owner, whoever that is, signed.
        identity: else who must have signed by sigstore, such as a mail address.
        issuer: who vouches for that identity.

    Raises:
        MissingExtraError: model-signing is not installed.
        SigningError: nothing to check with is given, or the key is no public key.
    """
    pem = recorded if key is None else read_public_key(key)
    if pem is None and (identity is None or issuer is None):
        raise SigningError("To check a signature, give a public key, or an identity and its issuer (sigstore).")
    text = read_text(folder / SIGNATURE)
    if text is None:
        return "is missing, or no file of text"
    wrong = _loose(text, pem)
    if wrong:
        return wrong
    with tempfile.TemporaryDirectory() as scratch:
        config = _library("verifying").Config().set_hashing_config(_hashing())
        try:
            if pem is None:
                config.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
            else:
                path = Path(scratch) / "key.pem"
                path.write_text(pem, encoding="utf-8")
                config.use_elliptic_key_verifier(public_key=path)
            config.verify(folder, folder / SIGNATURE)
        except Exception as error:  # a damaged signature may raise anything
            return f"does not hold: {one_line(error, named=False)}"
    return _uncovered(folder, text)


def _loose(text: str, pem: str | None) -> str:
    """Say what in a signature file is not as `sign` writes it; no signature covers its own wrapping."""
    try:
        bundle = parsed(text)
        if json.dumps(bundle, separators=(",", ":")) != text:
            return "is not in the form in which it was written: it was changed"
        if pem is not None and bundle != _wrapped(bundle, pem):
            signed_by = bundle["verificationMaterial"]["publicKey"]["hint"]
            if bundle == _wrapped(bundle, pem, signed_by):
                return f"was made with another key, {signed_by[:16]}..., not {fingerprint(pem)[:16]}..."
            return "is not in the form in which it was written: it was changed"
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return f"is no signature: it was changed ({one_line(error, named=False)})"
    return ""


def _wrapped(bundle: Mapping[str, Any], pem: str, hint: str | None = None) -> dict[str, Any]:
    """Return the bundle that holds this payload and signature, and nothing that neither key nor signature fixes."""
    envelope = bundle["dsseEnvelope"]
    signature = _base64(envelope["signatures"][0]["sig"])
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hint or fingerprint(pem)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _base64(envelope["payload"]),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": signature, "keyid": ""}],
        },
    }


def _base64(text: str) -> str:
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _uncovered(folder: Path, text: str) -> str:
    """Name files that the signature, which holds, leaves out."""
    payload = json.loads(base64.b64decode(json.loads(text)["dsseEnvelope"]["payload"]))
    covered = {one["name"] for one in payload["predicate"]["resources"]}
    there = {name for name, _ in contents(folder, without=(SIGNATURE, *WORKING))}
    left = sorted(there - covered)
    return f"does not cover {', '.join(map(shown, left[:3]))}" if left else ""


def _hashing() -> Any:
    config = _library("hashing").Config().use_file_serialization()
    return config.set_ignored_paths(paths=[SIGNATURE, *WORKING], ignore_git_paths=False)


def _signer(spec: SignSpec) -> Any:
    config = _library("signing").Config()
    try:
        if spec.key is not None:
            return config.use_elliptic_key_signer(private_key=spec.key)
        return config.use_sigstore_signer(use_ambient_credentials=True)
    except Exception as error:  # of the network, mostly
        reason = one_line(error, named=False)
        raise SigningError(f"sigstore cannot be used here ({reason}). Sign with a key file instead.") from error


def _library(module: str) -> Any:
    try:
        return importlib.import_module(f"model_signing.{module}")
    except ImportError as error:
        package = "model-signing" if error.name in (None, "model_signing") else str(error.name).split(".")[0]
        raise MissingExtraError(package, "sign", "A signature") from error
