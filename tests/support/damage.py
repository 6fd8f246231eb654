"""What happens to a file on its way: by name, what it does to the bytes and a part of the message."""

from __future__ import annotations

import quopri
import re
from collections.abc import Callable

__all__ = ["DAMAGES"]


def _wrapped(data: bytes) -> bytes:
    return re.sub(rb"(\S{40})(?=\S{8})", rb"\1\n", re.sub("^(— \\S+) ".encode(), rb"\1\n", data, flags=re.M))


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "autocrlf": (lambda data: data.replace(b"\n", b"\r\n"), "CRLF"),
    "old Mac line ends": (lambda data: data.replace(b"\n", b"\r"), "CRLF or CR"),
    "empty": (lambda data: b"", "is empty"),
    "a line break alone": (lambda data: b"\n", "is empty"),
    "zeros": (lambda data: bytes(len(data)), "zero bytes"),
    "zeros at the end": (lambda data: data[:-20] + bytes(20), "zero bytes"),
    "AppleDouble": (lambda data: b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(80), "macOS"),
    "byte order mark": (lambda data: b"\xef\xbb\xbf" + data, "byte order mark"),
    "mark and CRLF": (lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"), "byte order mark"),
    "UTF-16": (lambda data: data.decode().replace("\n", "\r\n").encode("utf-16"), "UTF-16"),
    "UTF-16 big, no mark": (lambda data: data.decode().encode("utf-16-be"), "UTF-16"),
    "UTF-32": (lambda data: data.decode().encode("utf-32"), "UTF-32"),
    "Windows-1252": (lambda data: data.decode().encode("cp1252"), "code page"),
    "mojibake": (lambda data: data.decode("cp1252").encode(), "the dash"),
    "two hyphens": (lambda data: data.replace("— ".encode(), b"-- "), "the dash"),
    "quoted-printable": (lambda data: quopri.encodestring(data), "quoted-printable"),
    "blanks at the ends": (lambda data: data.replace(b"\n", b"  \n"), "blanks"),
    "a blank behind the first line": (lambda data: data.replace(b"\n", b" \n", 1), "blanks"),
    "wrapped": (_wrapped, "wrapped"),
    "quoted": (lambda data: re.sub(b"^", b"> ", data[:-1], flags=re.M) + b"\n", "quoted with >"),
    "a whole mail": (lambda data: b"From: a@example.org\nSubject: checkpoint\n\n" + data, "whole mail"),
    "cut in a signature": (lambda data: data[:-9], "its end is missing"),
    "cut at a group of base64": (lambda data: data[:-25], "its end is missing"),
    "cut in the middle": (lambda data: data[: len(data) // 3], "its end is missing"),
    "without its last line break": (lambda data: data[:-1], "its end is missing"),
    "empty lines behind": (lambda data: data + b"\n\n", "empty lines"),
    "compressed": (lambda data: b"\x1f\x8b\x08\0" + data, "compressed"),
    "a pointer": (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "a conflict": (lambda data: b"<<<<<<< HEAD\n" + data + b"=======\n" + data + b">>>>>>> other\n", "could not merge"),
    "a page": (lambda data: b"<!DOCTYPE html><title>Sign in</title>\n", "web page"),
}
