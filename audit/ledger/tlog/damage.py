"""What happens to files on their way: line ends changed, mailed, cut off. Such a file proves nothing either way.

A text that only was changed on its way can often be put right, and says then what it said before: its signature
decides. It is still not taken as it is, for whoever keeps it should keep what was signed.
"""

from __future__ import annotations

import codecs
import quopri
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from audit.ledger.tlog.errors import LedgerError, Malformed, Unproven

__all__ = ["Damage", "Damaged", "examine", "read_kept"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is wrong with a file."""

    causes: tuple[str, ...]
    """Likely causes, in words: each follows "the file" in a sentence. Empty where nothing is known."""
    text: str | None
    """The text with that put right; None where it cannot be."""
    cut: bool
    """Whether the end of the file may be missing, so that a signature in it may be half of one."""

    def __str__(self) -> str:
        return "; ".join(self.causes) or "it is cut off, or was never a file of this kind"


class Damaged(LedgerError):
    """A checkpoint that was kept outside is damaged in a way that proves nothing: `damage`."""

    def __init__(self, damage: Damage) -> None:
        self.damage = damage
        super().__init__(f"It is damaged: {damage}. Get it once more from where it was written, as it was.")


def read_kept(text: str, read: Callable[[str], T]) -> tuple[T, Damage | None]:
    """Read a checkpoint that was kept outside, put right if it is damaged.

    Args:
        text: the file, its bytes as UTF-8 with surrogate escapes.
        read: opens the checkpoint and verifies it.

    Returns:
        What `read` returns, and the damage that had to be put right first. A caller may compare what a damaged file
        says, so that damage hides nothing, but takes it for nothing else.

    Raises:
        Damaged: it cannot be put right.
        LedgerError: what `read` raises of a file that is not damaged, or that does not hold when it is put right.
    """
    try:
        return read(text), None
    except LedgerError as error:
        found = examine(text.encode("utf-8", "surrogateescape"))
        if not found.causes and not isinstance(error, Malformed):
            raise
        if found.text is not None:
            try:
                return read(found.text), found
            except Unproven:
                if not found.cut:  # half a signature is not a wrong one
                    raise
            except LedgerError:
                pass
        raise Damaged(found) from error


def examine(data: bytes) -> Damage:
    """Look for what may have happened to a checkpoint or a proof since it was written.

    Args:
        data: the file, which could not be read or verified as it is.
    """
    for matches, cause in _FOREIGN:
        if matches(data):
            return Damage(causes=(cause,), text=None, cut=True)
    text, causes = _decoded(data)
    if text is None:
        return Damage(causes=tuple(causes), text=None, cut=True)
    cut = not text.endswith(("\n", "\r"))
    if cut:
        causes = [
            *causes,
            "its end is missing, or the line break there: perhaps the disk was full when it was copied",
        ]
        text += "\n"
    for mend, cause in _MENDS:
        mended = mend(text)
        if mended != text:
            text, causes = mended, [*causes, cause]
    return Damage(causes=tuple(causes), text=text, cut=cut)


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(beginnings)


_ZEROS = "it holds zero bytes: the machine may have stopped when it was copied"
_MAIL = re.compile(rb"(?:From .*\r?\n)?(?:[A-Z][A-Za-z-]+: .*\r?\n)+")
_FOREIGN: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (
        lambda data: not data.strip(b"\r\n\t "),
        "it is empty: the disk may have been full, or the machine stopped, when it was copied",
    ),
    (lambda data: not data.strip(b"\0"), _ZEROS),
    (
        _starts(b"\x00\x05\x16\x07", b"\x00\x05\x16\x00"),
        "it is a companion that macOS writes beside a file when it copies or packs it; take it away",
    ),
    (_starts(b"\x1f\x8b", b"pk\x03\x04", b"bzh", b"\xfd7zxz"), "it is compressed; unpack it first"),
    (_starts(b"version https://git-lfs"), "it is a pointer of Git LFS and not the file: git lfs pull"),
    (_starts(b"<!doctype", b"<html", b"<?xml"), "it is a web page, perhaps of a login, that was saved in its place"),
    (
        lambda data: re.search(rb"^(<<<<<<<|>>>>>>>) ", data, re.MULTILINE) is not None,
        "it holds two versions that git could not merge; take the one that was signed",
    ),
    (lambda data: _MAIL.match(data) is not None, "it is a whole mail; save the text or the attachment alone"),
)


def _decoded(data: bytes) -> tuple[str | None, list[str]]:
    for mark, encoding in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return _as(data, encoding), [f"it was stored as {encoding.upper()}, as by PowerShell; UTF-8 is needed"]
    if b"\0" in data:
        for encoding, zeros in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
            if zeros.count(0) > len(zeros) / 2:
                return _as(data, encoding), ["it was stored as UTF-16; UTF-8 is needed"]
        return None, [_ZEROS]
    try:
        text, causes = data.decode(), []
    except UnicodeDecodeError:
        # The dash before a signature is the one character beyond ASCII in most files.
        return _as(data, "cp1252"), ["it was stored in a code page such as Windows-1252; UTF-8 is needed"]
    if text.startswith("\ufeff"):
        text, causes = text[1:], ["it begins with a byte order mark, as some editors write one"]
    return text, causes


def _as(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unprintable(text: str) -> str:
    """Undo quoted-printable, where a dash, an equals sign or a blank at the end of a line shows it."""
    if not re.search(r"=(E2=80=94|3D|20$)", text, re.MULTILINE):
        return text
    try:
        return quopri.decodestring(text.encode()).decode()
    except UnicodeDecodeError:
        return text


def _dashes(text: str) -> str:
    mangled = re.escape("\N{EM DASH}".encode().decode("cp1252"))
    return re.sub(rf"^({mangled}|--|-|\N{{EN DASH}}) (?=\S+ [A-Za-z0-9+/])", "\N{EM DASH} ", text, flags=re.M)


def _unquoted(text: str) -> str:
    lines = text.removesuffix("\n").split("\n")
    if all(line.startswith(">") for line in lines):
        text = "".join(re.sub("^> ?", "", line) + "\n" for line in lines)
    return re.sub(r"^>(>*From )", r"\1", text, flags=re.M)


def _unspaced(text: str) -> str:
    return re.sub("[ \t\N{NO-BREAK SPACE}]+$", "", text, flags=re.M)


def _unwrapped(text: str) -> str:
    """Join the lines of a signature, of `extra` and of a hash that were cut: base64 has no other line breaks."""
    text = re.sub(r"^(— \S+)\n(?=[A-Za-z0-9+/=]+$)", r"\1 ", text, flags=re.M)
    text = re.sub(r"^(extra)\n(?=[A-Za-z0-9+/=]+$)", r"\1 ", text, flags=re.M)
    lines: list[list[str]] = []
    goes_on = False
    for line in text.split("\n"):
        if lines and _BASE64.fullmatch(line) and (goes_on or _HASH.fullmatch("".join([*lines[-1], line]))):
            lines[-1].append(line)
        else:
            lines.append([line])
            goes_on = _BEGUN.fullmatch(line) is not None
    return "\n".join(map("".join, lines))


_BASE64 = re.compile("[A-Za-z0-9+/]+={0,2}")
_BEGUN = re.compile(r"(— \S+|extra) [A-Za-z0-9+/]+")
_HASH = re.compile("[A-Za-z0-9+/]{43}=")


def _framed(text: str) -> str:
    return text.strip("\n") + "\n"


_MENDS: tuple[tuple[Callable[[str], str], str], ...] = (
    (_line_ends, "its line ends were changed to CRLF or CR, as git does with core.autocrlf, and editors and FTP do"),
    (_unprintable, "it was mailed as quoted-printable and not decoded"),
    (_dashes, "the dash before a signature was changed, as another encoding or a mail program does"),
    (_unquoted, "it was mailed, and lines were quoted with >"),
    (_unspaced, "there are blanks at ends of lines, as a mail program or an editor leaves them"),
    (_unwrapped, "its lines were wrapped, as a mail program does"),
    (_framed, "empty lines were added at its beginning or end, as by copying by hand"),
)
