"""`amnesty verify`: does the record of a run hold, and does everything that it names still stand as it says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amnesty.errors import AmnestyError, MissingExtraError
from amnesty.requests.audit import AuditError, inspect_audit
from amnesty.requests.content_checks import (
    Audit,
    can_read_answers,
    content_problems,
    parent_folder,
    rescored_problems,
)
from amnesty.requests.data_checks import Datasets, Reevaluate, check_data
from amnesty.requests.digests import AUDIT, SIGNATURE, file_hash, is_plain
from amnesty.requests.folder_checks import file_problems
from amnesty.requests.links import link_to
from amnesty.requests.signing import SigningError, check_signature, read_public_key
from amnesty.requests.verification import Notes, Verification


def verify(
    folder: Path,
    *,
    key: Path | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    sha256: str | None = None,
    data: bool | None = None,
    reevaluate: Reevaluate | None = None,
    datasets: Datasets | None = None,
) -> Verification:
    """Check the folder of a finished run.

    First the record itself and the hash of every file; then the signature; then, where nothing was changed, that the
    files say what the record says, that the scores follow from the stored answers, and that earlier requests are
    linked as recorded. The data comes last and only where all this holds, since a request may name functions, which
    are run to make it.

    Args:
        folder: of the run.
        key: public key file (PEM) that must have signed the folder.
        identity: instead of a key, who must have signed it by sigstore, such as a mail address.
        issuer: who vouches for that identity, such as ``https://accounts.google.com``.
        sha256: of audit.json, as noted elsewhere.
        data: ``False`` leaves the data alone, ``True`` makes it a problem where the data cannot be had, ``None``
            says so only.
        reevaluate: asks the model again; see `Reevaluate`. Without one no score is taken again from the model.
        datasets: finds the data again; see `Datasets`. Without one nobody looks for forgotten examples in it.

    Raises:
        AuditError: there is no record in the folder, or one of a schema that this version does not know.
        SigningError: the key is no public key, or an identity is given without an issuer.
        MissingExtraError: a key or an identity is given, and model-signing is not installed.
        OSError: something cannot be read.
    """
    signer = _Signer(key, identity, issuer)
    signer.check()
    notes = Notes()
    audit, found = _check_record(notes, Path(folder), signer)
    if sha256 is not None:
        other = [] if found == sha256.strip().lower() else [f"{AUDIT}: has the SHA-256 {found}, not {sha256}"]
        notes.found(f"{AUDIT} against the SHA-256 that was given", other)
    if audit is not None and not notes.problems:
        _check_contents(notes, Path(folder), audit, ())
    if audit is not None and data is not False:
        check_data(notes, Path(folder), audit, data is True, reevaluate, datasets)
    return notes.done(Path(folder), found)


@dataclass(frozen=True)
class _Signer:
    """Who must have signed; nobody in particular where all is ``None``."""

    key: Path | None = None
    identity: str | None = None
    issuer: str | None = None

    @property
    def demanded(self) -> bool:
        return self.key is not None or self.identity is not None

    def check(self) -> None:
        if (self.identity is None) != (self.issuer is None):
            raise SigningError("An identity and its issuer go together: who signed, and who vouches for that.")
        if self.key is not None and self.identity is not None:
            raise SigningError("Give a key or an identity to check the signature with, not both.")
        if self.key is not None:
            read_public_key(self.key)


def _check_record(notes: Notes, folder: Path, signer: _Signer) -> tuple[Audit | None, str | None]:
    """Check the record, the hashes and the signature; return the record if it holds, and the hash of its file."""
    if not folder.is_dir():
        raise AuditError(f"{folder} is no folder: there is nothing to verify.")
    audit, wrong = inspect_audit(folder)
    notes.found(f"{AUDIT} itself", [f"{AUDIT}: {wrong}"] if wrong else [])
    if audit is not None:
        problems = list(file_problems(folder, audit["files"]))
        notes.found(f"{len(audit['files'])} files against their hashes in {AUDIT}", problems)
    _check_signature(notes, folder, audit, signer)
    return audit, file_hash(folder / AUDIT) if is_plain(folder / AUDIT) else None


def _check_signature(notes: Notes, folder: Path, audit: Audit | None, signer: _Signer) -> None:
    there = (folder / SIGNATURE).exists() or (folder / SIGNATURE).is_symlink()
    if there and not is_plain(folder / SIGNATURE):
        notes.found(SIGNATURE, [f"{SIGNATURE}: is no plain file"])
        return
    facts = None if audit is None else audit["signature"]
    if signer.demanded:
        wrong = check_signature(folder, key=signer.key, identity=signer.identity, issuer=signer.issuer)
        notes.found(f"{SIGNATURE}, by {signer.key or signer.identity}", [f"{SIGNATURE}: {wrong}"] if wrong else [])
    elif facts is not None and not there:
        notes.found(SIGNATURE, [f"{SIGNATURE}: is missing, although {AUDIT} names one"])
    elif facts is not None and facts["public_key"] is not None:
        _check_recorded_key(notes, folder, facts["public_key"], facts["fingerprint"])
    elif there and audit is not None and facts is None:
        notes.found(SIGNATURE, [f"{SIGNATURE}: was added: {AUDIT} names no signature. Give the key that made it"])
    elif there:
        notes.unchecked.append(f"{SIGNATURE}: give the key, or the identity and its issuer, that must have made it")
    else:
        notes.unchecked.append(f"who made this: it is not signed, and whoever can write here can write a new {AUDIT}")


def _check_recorded_key(notes: Notes, folder: Path, public_key: str, fingerprint: str | None) -> None:
    what = f"{SIGNATURE}, by the key {str(fingerprint)[:16]}... that {AUDIT} names"
    try:
        wrong = check_signature(folder, recorded=public_key)
    except MissingExtraError as error:
        notes.unchecked.append(f"{what}: {error}")
        return
    notes.found(what, [f"{SIGNATURE}: {wrong}"] if wrong else [])
    if not wrong:
        notes.unchecked.append("whose key that is: give the public key of whom you trust")


def _check_contents(notes: Notes, folder: Path, audit: Audit, seen: tuple[Path, ...]) -> None:
    """Check a folder none of whose files was changed; ``seen`` are those of later requests."""
    for what, lines in content_problems(folder, audit):
        notes.found(what, lines)
    _check_answers(notes, folder, audit)
    if audit["chain"]:
        _check_parent(notes, folder, audit["chain"], (*seen, folder.resolve()))


def _check_answers(notes: Notes, folder: Path, audit: Audit) -> None:
    what = "the scores against the stored answers"
    if "answers.parquet" not in audit["files"]:
        notes.unchecked.append(f"{what}: there are none")
    elif not can_read_answers():
        notes.unchecked.append(f"{what}: the package `pyarrow` is not installed")
    else:
        try:
            notes.found(what, rescored_problems(folder, audit))
        except AmnestyError as error:
            notes.found(what, [str(error)])


def _check_parent(notes: Notes, folder: Path, chain: Sequence[Audit], seen: tuple[Path, ...]) -> None:
    link = chain[-1]
    what = f"the folder of the request before, {link['name']!r}"
    parent = parent_folder(folder)
    if parent is None or not (parent / AUDIT).exists():
        notes.unchecked.append(f"{what}: it is not at hand")
        return
    if parent.resolve() in seen:
        notes.found(what, [f"chain: {parent} stands in it twice"])
        return
    inner = Notes()
    audit, found = _check_record(inner, parent, _Signer())
    if audit is not None and not inner.problems:
        _check_contents(inner, parent, audit, seen)
    problems = [f"{parent}: {line}" for line in inner.problems]
    if found != link["audit_sha256"]:
        problems.append(f"{parent / AUDIT}: is not the record that the chain names: it was replaced")
    elif audit is not None and [*audit["chain"], link_to(audit, link["audit_sha256"]).document] != chain:
        problems.append(f"chain: says of {link['name']!r} what is not in {parent / AUDIT}")
    notes.found(f"{what} ({parent})", problems)
    notes.unchecked += [f"{parent}: {line}" for line in inner.unchecked]
