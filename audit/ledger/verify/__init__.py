"""The verifier: does the database still hold what was sealed? Everything is hashed here, in Python, in one snapshot.

What it reads, in this order: the catalog (are the tables the tables?), the checkpoints of the database and those kept
outside, every leaf with the row it stands for and the tree they make, the rows that have no leaf, and what the log says
of each task. It trusts the verifier keys it is given and nothing in the database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import Error

from audit.exceptions import AuditError
from audit.inspection import Flaw, inspect
from audit.ledger.binary_rows import pin_search_path, snapshot
from audit.ledger.exported import Exported
from audit.ledger.tlog.note import KeyKind, Verifier
from audit.ledger.verify.findings import Code, Finding, Findings, Report
from audit.ledger.verify.history import look_at_history
from audit.ledger.verify.leaves import Leaves, Progress
from audit.ledger.verify.signed_roots import Expected, expected
from audit.ledger.verify.unsealed import Unsealed, look_for_unsealed
from audit.models import LedgerHead, LedgerVerification, Verdict
from audit.values import moments
from audit.values.validation import storable_text

__all__ = ["CannotVerify", "keep", "keep_unchecked", "verify"]


_NAMED = 20
"""How many damaged checkpoints a report names."""


class CannotVerify(AuditError):
    """There is nothing to verify with: `problem`."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


def verify(
    using: str,
    verifiers: Sequence[Verifier],
    *,
    exported: Iterable[Exported] | None = None,
    accepted_epochs: Collection[int] = (),
    progress: Progress | None = None,
) -> Report:
    """Verify the ledger and every row that it sealed.

    Args:
        using: alias of the database; a replica will do.
        verifiers: keys of the log, all of one name, which is the log's.
        exported: checkpoints that were kept outside the database. Without them a log that was
            rewritten whole, by whoever has the signing key, cannot be distinguished from the true one.
        accepted_epochs: numbers of the epochs whose restore the auditor knows of. A checkpoint that was kept outside
            and covers more than another later epoch went on from is a rollback: whoever has the signing key can
            declare an epoch.
        progress: called now and then with the leaves read and their number.

    Returns:
        What was found and what was not looked at. Memory grows with the checkpoints (under 1 KB each), not with
        the tables.

    Raises:
        CannotVerify: no keys, keys of several logs, a witness's key, a damaged checkpoint among those kept outside
            while nothing was found, or a failure of the verification that nothing found before explains.
        django.db.Error: the database cannot be read.
    """
    for verifier in verifiers:
        if verifier.kind is not KeyKind.ED25519:
            raise CannotVerify(
                f"{verifier.label} is a witness's key, and a log's key is needed: audit_keygen printed it. Witnesses' "
                "signatures are checked with python -m audit.ledger checkpoint FILE --key VKEY --witness VKEY."
            )
    names = {verifier.name for verifier in verifiers}
    if len(names) != 1:
        listed = ", ".join(sorted(names)) or "none"
        raise CannotVerify(f"The verifier keys must be of one name, the log's; these are of: {listed}.")
    started = moments.now()
    findings = Findings()
    try:
        return _verified(using, names.pop(), verifiers, exported, accepted_epochs, progress, started, findings)
    except AuditError:
        raise
    except Exception as error:
        # Whoever can change the tables can make what reads them fail; that must not hide what was found until then.
        if findings:
            return _unreadable(started, findings, error)
        if isinstance(error, Error):
            raise
        raise CannotVerify(f"The verification failed: {type(error).__name__}: {error}") from error


def _verified(
    using: str,
    name: str,
    verifiers: Sequence[Verifier],
    exported: Iterable[Exported] | None,
    accepted: Collection[int],
    progress: Progress | None,
    started: datetime,
    findings: Findings,
) -> Report:
    with snapshot(using) as (raw, cursor):
        findings.extend(map(_finding, inspect(using)))
        pin_search_path(cursor)
        head = LedgerHead.objects.using(using).filter(id=1).first() or LedgerHead(
            id=1, epoch=1, size=0, frontier=b"", low_xid=0, system_identifier=""
        )
        wanted = expected(using, name, verifiers, exported, accepted, findings)
        leaves = Leaves(using, raw, wanted, findings, progress)
        leaves.read()
        leaves.tree.end(head)
        left = look_for_unsealed(raw, cursor, head, findings)
        look_at_history(raw, findings)
    if wanted.damaged and not findings:
        more = f" {len(wanted.damaged) - 1} more could not be checked." if len(wanted.damaged) > 1 else ""
        raise CannotVerify(f"Nothing was found, but not everything could be checked. {wanted.damaged[0]}{more}")
    return Report(
        started_at=started,
        size=leaves.tree.size,
        signed=wanted.signed,
        findings=findings.ordered(),
        counts=_counts(findings),
        covered=leaves.covered | {"checkpoints": wanted.checkpoints, "external_checkpoints": wanted.external},
        unsealed=left.count,
        oldest_unsealed=left.oldest,
        not_covered=_not_covered(wanted, left, accepted, exported is not None),
        accepted_epochs=sorted(set(accepted)),
    )


def keep(report: Report, using: str, actor: str) -> LedgerVerification:
    """Store a report for the browser.

    Args:
        report: what was found.
        using: alias of a database that can be written to.
        actor: who verified.
    """
    return LedgerVerification.objects.using(using).create(
        started_at=report.started_at,
        verdict=Verdict.INTACT if report.intact else Verdict.TAMPERING,
        size=report.size,
        unsealed=report.unsealed,
        oldest_unsealed=report.oldest_unsealed,
        report=_readable(report.as_json()),
        actor=actor,
    )


def keep_unchecked(using: str, actor: str, started_at: datetime, problem: str) -> LedgerVerification:
    """Store for the browser that a verification could not be made.

    Args:
        using: alias of a database that can be written to.
        actor: who wanted to verify.
        started_at: when.
        problem: why it could not, in words.
    """
    report = {
        "verdict": Verdict.UNCHECKED.value,
        "started_at": moments.iso(started_at),
        "problem": problem,
        "findings": [],
        "counts": {},
        "covered": {},
        "not_covered": [f"Everything: {problem}"],
    }
    return LedgerVerification.objects.using(using).create(
        started_at=started_at,
        verdict=Verdict.UNCHECKED,
        size=0,
        unsealed=0,
        oldest_unsealed=None,
        report=_readable(report),
        actor=actor,
    )


def _readable(value: Any) -> Any:
    """Make a report that can be stored as JSON: it may name a file whose name is not text."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {key: _readable(inner) for key, inner in value.items()}
    return [_readable(inner) for inner in value] if isinstance(value, list) else value


_FLAWS = {
    "table-missing": Code.RELATION_REPLACED,
    "table-replaced": Code.RELATION_REPLACED,
    "row-security": Code.RELATION_REPLACED,
    "column-missing": Code.SCHEMA_CHANGED,
    "column-retyped": Code.SCHEMA_CHANGED,
    "column-unknown": Code.SCHEMA_CHANGED,
}


def _finding(flaw: Flaw) -> Finding:
    return Finding(code=_FLAWS.get(flaw.kind, Code.GUARD_OFF), message=flaw.problem)


def _counts(findings: Findings) -> dict[str, int]:
    return {code.value: findings.counts[code] for code in Code if findings.counts[code]}


def _unreadable(started: datetime, findings: Findings, error: Exception) -> Report:
    problem = str(error).partition("\n")[0]
    if not isinstance(error, Error):
        problem = f"{type(error).__name__}: {problem}"
    return Report(
        started_at=started,
        size=0,
        signed=0,
        findings=findings.ordered(),
        counts=_counts(findings),
        covered={},
        unsealed=0,
        oldest_unsealed=None,
        not_covered=[f"What was not read: the tables cannot be read as they are now ({problem})."],
    )


def _not_covered(wanted: Expected, left: Unsealed, accepted: Collection[int], outside: bool) -> list[str]:
    said = [f"An external checkpoint. {each}" for each in wanted.damaged[:_NAMED]]
    if len(wanted.damaged) > _NAMED:
        said.append(f"{len(wanted.damaged) - _NAMED} more external checkpoints that could not be checked.")
    if left.count:
        oldest = f", the oldest of {left.oldest:%Y-%m-%d %H:%M:%S %Z}" if left.oldest else ""
        said.append(
            f"{left.count} finished tasks and log rows that are not sealed yet{oldest}. An owner of the database can "
            "still change them. Only their transitions, transaction and age were checked."
        )
        said.append(
            "Whether the unsealed rows are really new. This relies on unsigned bookkeeping: an owner could have "
            "inserted backdated rows. They can only be sealed after everything that is already signed."
        )
    said.append("Unfinished tasks and the pause queue. (What is sealed of the log of these tasks is covered.)")
    if outside and not (wanted.external or wanted.left_behind):
        said.append("No external checkpoint was found where they should be kept, or none was of this log.")
    if not outside:
        said.append(
            "No external checkpoint was given, so a thief of the signing key could have rewritten the whole log. Keep "
            "checkpoints elsewhere, and name their directory with --checkpoints."
        )
    if wanted.left_behind:
        said.append(
            f"{wanted.left_behind} external checkpoints of a past that an accepted epoch left behind (accepted: "
            f"{', '.join(map(str, sorted(set(accepted))))}): what they covered beyond the restored state is gone."
        )
    return said
