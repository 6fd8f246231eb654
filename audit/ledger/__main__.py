"""`python -m audit.ledger`: check and witness on a machine that has neither Django nor the database.

It needs Python and `cryptography`, and runs from the wheel as it is: `PYTHONPATH=….whl python -m audit.ledger`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from audit.ledger.tlog import keys, report, witness
from audit.ledger.tlog.checkpoint import open_checkpoint
from audit.ledger.tlog.damage import examine
from audit.ledger.tlog.errors import InvalidKey, LedgerError, Unproven
from audit.ledger.tlog.note import KeyKind, Verifier, generate, to_base64
from audit.ledger.tlog.proof import check, check_growth
from audit.values.terminal import safe

__all__ = ["main"]

PROVEN, UNPROVEN, UNABLE = 0, 1, 2
"""Exit codes: it is proven; it is not; it could not be judged (no such file, no proof, a bad key)."""

STOPPED = 130
"""Exit code of what Ctrl-C ended."""

_MAX_FILE = 256 * 1024 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: what follows `python -m audit.ledger`; without it, what this process was started with.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    options.files, options.damaged = {}, {}
    try:
        _put(*options.run(options))
    except LedgerError as error:
        return _failed(options, error)
    except BrokenPipeError:
        if sys.stderr is not None:
            sys.stderr.close()
        return UNABLE
    except KeyboardInterrupt:
        return STOPPED
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror}", UNABLE)
    return PROVEN


def _failed(options: argparse.Namespace, error: LedgerError) -> int:
    """Say what does not hold; of files that are damaged in a way that proves nothing, say what happened to them."""
    damaged = {path: found for path, data in options.files.items() if (found := examine(data)).causes}
    unproven = isinstance(error, Unproven)
    if damaged and options.run is not _witness:
        options.damaged = damaged
        try:
            list(options.run(options))
        except Unproven as still:  # damage excuses nothing that does not hold when it is put right
            unproven = unproven or not any(found.cut for found in damaged.values())
            error = still if unproven else error
        except LedgerError:
            pass
        else:
            unproven = False
    if unproven:
        if options.format == "json":
            with contextlib.suppress(OSError):
                _put(report.failure_as_json(error))
        return _fail(f"NOT PROVEN. {error}", UNPROVEN)
    causes = "".join(f" {path} is damaged: {found}." for path, found in damaged.items())
    return _fail(f"{error}{causes}", UNABLE)


def _check(options: argparse.Namespace) -> Iterable[str]:
    checked = check(_read(options, options.file), **_trust(options))
    return [report.checked_as_json(checked)] if options.format == "json" else report.checked_as_text(checked)


def _checkpoint(options: argparse.Namespace) -> Iterable[str]:
    head = open_checkpoint(_read(options, options.file), **_trust(options))
    return [report.head_as_json(head)] if options.format == "json" else report.head_as_text(head)


def _consistency(options: argparse.Namespace) -> Iterable[str]:
    old, new = check_growth(_read(options, options.file), _read(options, options.old), **_trust(options))
    if options.format == "json":
        return [report.growth_as_json(old, new)]
    return report.growth_as_text(old, new)


def _keygen(options: argparse.Namespace) -> Iterable[str]:
    signer = generate(options.name, KeyKind.COSIGNATURE if options.witness else KeyKind.ED25519)
    if options.output:
        keys.write(options.output, signer)
    _put(str(signer.verifier) if options.output else signer.secret())  # first: a key that is lost needs no advice
    for line in keys.advice(signer, options.output):
        _note(line)
    return []


def _witness(options: argparse.Namespace) -> Iterable[str]:
    signers = keys.read(options.signing_key)
    if len(signers) != 1:
        raise InvalidKey(f"{options.signing_key} holds {len(signers)} keys; a witness signs with one.")
    signature = witness.cosign(
        _read(options, options.file),
        options.state,
        signers[0],
        options.key,
        now=int(time.time()),
        origin=options.origin,
        first=options.first,
    )
    return [str(signature)]


def _remembered(options: argparse.Namespace) -> Iterable[str]:
    known = witness.remembered(options.state)
    if not known:
        _note(f"{options.state} remembers no log.")
    for origin, checkpoint in known.items():
        yield f"{checkpoint.size} {to_base64(checkpoint.root)} {safe(origin)}"


def _trust(options: argparse.Namespace) -> dict[str, Any]:
    """Collect whom to believe."""
    if (options.quorum or 0) > len(options.witness):
        raise LedgerError(f"--quorum {options.quorum} needs as many --witness keys; there are {len(options.witness)}.")
    return {
        "verifiers": options.key,
        "witnesses": options.witness,
        "origin": options.origin,
        "quorum": min(1, len(options.witness)) if options.quorum is None else options.quorum,
    }


def _read(options: argparse.Namespace, path: Path) -> str:
    """Read a text file, or standard input for `-`, without touching its line breaks; once damaged, as it was before."""
    if found := options.damaged.get(path):
        if found.text is None:
            raise LedgerError(f"{path} is damaged: {found}.")
        return str(found.text)
    if path in options.files:
        data = options.files[path]
    elif str(path) == "-":
        if sys.stdin is None:
            raise LedgerError("Standard input is closed. There is nothing to read.")
        data = sys.stdin.buffer.read(_MAX_FILE + 1)
    else:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    options.files[path] = data
    if len(data) > _MAX_FILE:
        raise LedgerError(f"{path} has more than {_MAX_FILE} bytes.")
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise LedgerError(f"{path} is not a proof: byte {error.start} is not UTF-8.") from None


def _put(*lines: str) -> None:
    """Print the output proper.

    Raises:
        OSError: it cannot be written, or standard output is closed.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    for line in lines:
        print(line)  # noqa: T201
    sys.stdout.flush()


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; is a variable not set? (. names this directory)")
    return Path(text)


def _note(line: str) -> None:
    """Print for the person, beside the output proper; the exit code says the same where that cannot be written."""
    if sys.stderr is not None:  # print would take standard output
        with contextlib.suppress(OSError):
            print(safe(line), file=sys.stderr)  # noqa: T201


def _fail(message: str, code: int) -> int:
    _note(message)
    return code


def _key(kind: KeyKind) -> Callable[[str], Verifier]:
    def read(text: str) -> Verifier:
        try:
            return keys.verifier_of(text, kind)
        except InvalidKey as error:
            raise argparse.ArgumentTypeError(safe(error)) from None

    return read


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audit.ledger",
        description="Check proofs of tasks offline, or cosign checkpoints as a witness. No Django, no database.",
        epilog="Exit codes: 0 proven or done, 1 not proven, 2 could not be judged or done.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    trust = argparse.ArgumentParser(add_help=False)
    trust.add_argument(
        "--key",
        action="append",
        required=True,
        type=_key(KeyKind.ED25519),
        metavar="VKEY",
        help="a verifier key of the log, <name>+<id>+<base64>, from a source that you trust; repeat the option for "
        "several",
    )
    trust.add_argument(
        "--witness",
        action="append",
        default=[],
        type=_key(KeyKind.COSIGNATURE),
        metavar="VKEY",
        help="the verifier key of a witness that you trust; repeat the option for several",
    )
    trust.add_argument(
        "--quorum",
        type=_positive,
        metavar="N",
        help="at least N of these witnesses must have cosigned (default: 1 with --witness)",
    )
    trust.add_argument(
        "--origin",
        metavar="NAME",
        help="the log's name, if it is not the name of its key",
    )
    trust.add_argument("--format", choices=("text", "json"), default="text", help="the output format (default text)")
    for name, run, text in (
        ("check", _check, "check the proof of a task, and show the task and the rows of its log that are proven"),
        ("checkpoint", _checkpoint, "check who signed a checkpoint, and show it"),
        ("consistency", _consistency, "check that a log has only grown since an older checkpoint"),
    ):
        command = commands.add_parser(name, parents=[trust], help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(run=run)
        if name == "consistency":
            command.add_argument("old", type=_path, metavar="OLD_CHECKPOINT", help="the older signed checkpoint")
        command.add_argument("file", type=_path, metavar="FILE", help="the file to check; - reads standard input")
    _add_witness(commands)
    return parser


def _add_witness(commands: Any) -> None:
    """Add what a witness needs, and keys."""
    text = "cosign a checkpoint if the log has only grown since the last one, and print the signature line"
    command = commands.add_parser("witness", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=_witness, format="text")
    command.add_argument("file", type=_path, metavar="FILE", help="a consistency file; - reads standard input")
    command.add_argument(
        "--state", type=_path, required=True, metavar="FILE", help="the file in which the witness remembers checkpoints"
    )
    command.add_argument(
        "--signing-key", type=_path, required=True, metavar="FILE", help="the file with the witness's signing key"
    )
    command.add_argument(
        "--key",
        action="append",
        required=True,
        type=_key(KeyKind.ED25519),
        metavar="VKEY",
        help="a verifier key of the log; repeat the option for several",
    )
    command.add_argument(
        "--origin",
        metavar="NAME",
        help="the log's name, if it is not the name of its key, such as NAME/epoch/2 after a restore",
    )
    command.add_argument(
        "--first", action="store_true", help="accept a log that this witness does not know yet, as it is now"
    )

    text = "list what a witness remembers: size, root and name of each log"
    command = commands.add_parser("remembered", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=_remembered, format="text")
    command.add_argument(
        "--state", type=_path, required=True, metavar="FILE", help="the file in which the witness remembers checkpoints"
    )

    text = "make a signing key, and print it, or with --output print its verifier key"
    command = commands.add_parser("keygen", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=_keygen, format="text")
    command.add_argument("name", metavar="NAME", help="the log's or the witness's name, such as example.com/audit")
    command.add_argument("--witness", action="store_true", help="make a key for a witness, not for a log")
    command.add_argument(
        "--output",
        type=_path,
        metavar="FILE",
        help="write the signing key to this file, which must not exist; only you can read it",
    )


if __name__ == "__main__":
    sys.exit(main())
