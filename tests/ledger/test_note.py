"""Signed notes, their keys, and checkpoints: published examples, what is refused, and fuzz."""

import re
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger.tlog.checkpoint import MAX_LEAVES, Checkpoint, open_checkpoint, read_number
from audit.ledger.tlog.checkpoint import sign as sign_checkpoint
from audit.ledger.tlog.errors import InvalidKey, InvalidSignature, LedgerError, Malformed, Unsigned, WrongOrigin
from audit.ledger.tlog.merkle import EMPTY_ROOT
from audit.ledger.tlog.note import (
    MAX_SIGNATURES,
    MAX_SIZE,
    KeyKind,
    Note,
    Signature,
    Signer,
    Verifier,
    from_base64,
    generate,
    sign,
    to_base64,
    verify,
)

# c2sp.org/signed-note, its examples.
FOO_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""

# golang.org/x/mod, sumdb/note/note_test.go and the package's documentation.
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH_KEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)

# The Go checksum database: its key as the go command carries it, and a checkpoint of it (from FiloSottile/torchwood,
# cmd/litewitness/testdata/sumdb.txt).
GO_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
GO_CHECKPOINT = """\
go.sum database tree
35225469
vt5T6GaLCXvyHFl9VUvvItR43XZxfLgftEcTyO3eJCQ=

— sum.golang.org Az3grpukl5AXaVfYkLiDGORx/DN2nlcS5kZHR5uYOBV2KA2HgXpD+gu9HHONebHLAyaKbbTM75QTtPydhKCExixSfwQ=
"""

# A checkpoint of a Certificate Transparency log of May 2026: signed by the log (and as RFC 6962 would have it),
# cosigned by four witnesses; with the verifier keys that the log and one witness publish.
CT_KEY = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
REMORA_KEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
CT_CHECKPOINT = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
"""  # noqa: E501

LOG = Signer(name="example.com/audit", kind=KeyKind.ED25519, seed=bytes(range(32)))
WITNESS = Signer(name="example.com/witness", kind=KeyKind.COSIGNATURE, seed=bytes(range(32, 64)))
HEAD = Checkpoint(origin=LOG.name, size=7, root=bytes(range(32)))


# Published examples


def test_the_example_of_c2sp() -> None:
    note = Note.parse(FOO_NOTE)
    assert str(note) == FOO_NOTE
    assert note.text == "This is an example message.\n"
    [verified] = verify(note, [Verifier.parse(FOO_KEY)])
    assert (verified.verifier.label, verified.at) == ("example.com/foo+530d903a", None)
    assert str(verified.verifier) == FOO_KEY


def test_the_example_of_go() -> None:
    signer = Signer.parse(PETER_SECRET)
    assert signer.secret() == PETER_SECRET
    assert str(signer.verifier) == PETER_KEY
    assert str(sign(TEXT, signer)) == f"{TEXT}\n{PETER_LINE}"


def test_two_signatures_of_go() -> None:
    peter, enoch = Verifier.parse(PETER_KEY), Verifier.parse(ENOCH_KEY)
    note = Note.parse(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}")
    assert [each.verifier for each in verify(note, [enoch, peter])] == [peter, enoch]
    assert [each.verifier for each in verify(note, [enoch])] == [enoch]
    with pytest.raises(Unsigned, match=r"known 'example.com/foo\+530d903a', signed by 'PeterNeumann\+c74f20a3', "):
        verify(note, [Verifier.parse(FOO_KEY)])
    with pytest.raises(Unsigned, match="known nobody"):
        verify(note, [])


def test_a_checkpoint_of_the_go_checksum_database() -> None:
    opened = open_checkpoint(GO_CHECKPOINT, [Verifier.parse(GO_KEY)], origin="go.sum database tree")
    assert opened.checkpoint.size == 35_225_469
    assert str(opened.checkpoint) == GO_CHECKPOINT.split("\n\n")[0] + "\n"
    assert str(opened.note) == GO_CHECKPOINT
    with pytest.raises(WrongOrigin, match=r"'go\.sum database tree', not of 'sum\.golang\.org'"):
        open_checkpoint(GO_CHECKPOINT, [Verifier.parse(GO_KEY)])
    with pytest.raises(InvalidSignature):
        open_checkpoint(
            GO_CHECKPOINT.replace("35225469", "35225468"), [Verifier.parse(GO_KEY)], origin="go.sum database tree"
        )


def test_a_cosigned_checkpoint_of_a_certificate_log() -> None:
    opened = open_checkpoint(CT_CHECKPOINT, [Verifier.parse(CT_KEY)], witnesses=[Verifier.parse(REMORA_KEY)])
    assert str(opened.note) == CT_CHECKPOINT
    assert len(opened.note.signatures) == 6
    assert [each.verifier.label for each in opened.signed] == ["arche2025h1.staging.ct.transparency.dev+ba2f06c0"]
    [cosigned] = opened.cosigned
    assert datetime.fromtimestamp(cosigned.at or 0, UTC) == datetime(2026, 5, 23, 21, 50, 24, tzinfo=UTC)
    with pytest.raises(InvalidSignature, match="remora"):
        # Another time, signed as little as another root.
        open_checkpoint(
            CT_CHECKPOINT.replace("2net5wAAAABqEiEg", "2net5wAAAABqEiEh"),
            [Verifier.parse(CT_KEY)],
            witnesses=[Verifier.parse(REMORA_KEY)],
        )


# Keys


@pytest.mark.parametrize(("read", "key"), [(Verifier.parse, PETER_KEY), (Signer.parse, PETER_SECRET)])
def test_no_mangled_key_is_taken(read, key: str) -> None:
    """As golang.org/x/mod does in its own tests: every part of a key, and every character replaced."""
    mangled = {key[begin:end] for begin in range(len(key)) for end in range(begin, len(key) + 1)} - {key}
    mangled |= {f"{key[:at]}{chr(ord(key[at]) + 1)}{key[at + 1 :]}" for at in range(len(key))}
    for each in mangled:
        with pytest.raises(InvalidKey) as refused:
            read(each)
        assert PETER_SECRET.split("+", 4)[4] not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==", "not base64"),
        ("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "kind that is not known"),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "has the id c74f20a3, not 'c74f20a4'"),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "has the id c74f20a3, not 'C74F20A3'"),
        ("PeterNeumann+c74f20a3+", "kind that is not known"),
        (f"{PETER_KEY}\n", "not base64"),
        (f" {PETER_KEY}", "cannot be the name"),
        (PETER_SECRET, "signing key where a verifier key belongs"),
        ("nonsense", "has the form"),
        ("x+00000000+" + to_base64(b"\x01" + bytes(31)), "has 31 bytes, not 32"),
    ],
)
def test_what_is_wrong_with_a_verifier_key(key: str, problem: str) -> None:
    with pytest.raises(InvalidKey, match=problem):
        Verifier.parse(key)


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "a\u00a0b", "a+b", "a\nb", "a\x01b", "\ud800", "a\u2028b"])
def test_names_that_no_key_has(name: str) -> None:
    with pytest.raises(InvalidKey, match="cannot be the name of a key"):
        generate(name)
    with pytest.raises(Malformed, match="cannot be the name of a key"):
        Note(text="x\n", signatures=(Signature(name=name, key_id=bytes(4), data=b"x"),))


@pytest.mark.parametrize("kind", KeyKind)
def test_a_new_key_is_read_back(kind: KeyKind) -> None:
    signer = generate("example.com/new", kind)
    assert signer != generate("example.com/new", kind)
    assert Signer.parse(signer.secret()) == signer
    assert Verifier.parse(str(signer.verifier)) == signer.verifier
    assert signer.seed.hex() not in repr(signer)
    assert repr(signer.seed) not in repr(signer)


def test_the_kind_is_part_of_the_id() -> None:
    other = Signer(name=LOG.name, kind=KeyKind.COSIGNATURE, seed=LOG.seed)
    assert other.verifier.public == LOG.verifier.public
    assert other.verifier.key_id != LOG.verifier.key_id


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(InvalidKey, match="has 31 bytes, not 32"):
        Signer(name="x", kind=KeyKind.ED25519, seed=bytes(31))


# Notes


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}{PETER_LINE}",
        f"{TEXT}\n{PETER_LINE[:-1]}",
        f"\x01{TEXT}\n{PETER_LINE}",
        f"{TEXT}\r\n\n{PETER_LINE}",
        f"{TEXT}\n".encode() + b"\xff" + PETER_LINE.encode(),
        f"{TEXT}\n{PETER_LINE}".encode("utf-16"),
        f"{TEXT}\ud800\n\n{PETER_LINE}",
        f"{TEXT}\n— Bad Name {PETER_LINE[16:]}",
        f"{TEXT}\n{PETER_LINE}Unexpected line.\n",
        f"{TEXT}\n{PETER_LINE}\n",
        f"{TEXT}\n{PETER_LINE} ",
        f"{TEXT}\n{PETER_LINE.replace('— ', '- ')}",
        f"{TEXT}\n{PETER_LINE.replace('AM=', 'AN=')}",
        f"{TEXT}\n{PETER_LINE.replace('AM=', 'AM')}",
        f"{TEXT}\n{PETER_LINE.replace('=', '= ')}",
        f"{TEXT}\n— PeterNeumann x08gow==\n",
        f"{TEXT}\n— PeterNeumann \n",
        f"{TEXT}\n— PeterNeumann\n",
        f"\n{PETER_LINE}",
        f"{TEXT}\n{PETER_LINE * (MAX_SIGNATURES + 1)}",
        "",
        "\n\n",
        "x" * (MAX_SIZE - len(PETER_LINE.encode()) - 1) + f"\n\n{PETER_LINE}",
        "x" * MAX_SIZE + f"\n\n{PETER_LINE}",
        "é" * (MAX_SIZE // 2) + f"\n\n{PETER_LINE}",
    ],
    ids=lambda data: ascii(data)[-60:],
)
def test_what_is_no_note(data: str | bytes) -> None:
    with pytest.raises(Malformed, match=r"^This is not a valid signed note: .*\.$"):
        Note.parse(data)


def test_a_text_may_have_empty_lines_and_hundred_signatures() -> None:
    data = f"\nOne.\n\n\n— not a signature\n\n\n{PETER_LINE * MAX_SIGNATURES}"
    note = Note.parse(data.encode())
    assert note.text == "\nOne.\n\n\n— not a signature\n\n"
    assert len(note.signatures) == MAX_SIGNATURES
    assert str(note) == data
    assert Note.parse("x" * (MAX_SIZE - len(PETER_LINE.encode()) - 2) + f"\n\n{PETER_LINE}")


def test_a_signature_that_does_not_fit_is_an_error_even_beside_good_ones() -> None:
    forged = PETER_LINE.replace("x08go/ZJ", "x08go/ZK")
    verifiers = [Verifier.parse(PETER_KEY), Verifier.parse(ENOCH_KEY)]
    for data in (f"{TEXT}\n{ENOCH_LINE}{forged}", f"{TEXT}\n{PETER_LINE}{forged}", f"{TEXT} \n{PETER_LINE}"):
        note = Note.parse(data if "\n\n" in data else data.replace(" \n", "!\n\n"))
        with pytest.raises(InvalidSignature, match=r"'PeterNeumann' \(c74f20a3\) does not fit") as refused:
            verify(note, verifiers)
        assert (refused.value.name, refused.value.key_id.hex()) == ("PeterNeumann", "c74f20a3")
    # The same line by a key that nobody knows says nothing.
    assert len(verify(Note.parse(f"{TEXT}\n{ENOCH_LINE}{forged}"), [verifiers[1]])) == 1


@pytest.mark.parametrize("data", [bytes(63), bytes(65), bytes(72), bytes(1)])
def test_a_signature_of_another_length_does_not_fit(data: bytes) -> None:
    signature = Signature(name=LOG.name, key_id=LOG.verifier.key_id, data=data)
    with pytest.raises(InvalidSignature):
        verify(Note(text="x\n", signatures=(signature,)), [LOG.verifier])


def test_a_name_or_an_id_alone_makes_no_known_key() -> None:
    [signature] = sign("x\n", LOG).signatures
    for other in (
        Signature(name="example.com/other", key_id=signature.key_id, data=signature.data),
        Signature(name=signature.name, key_id=b"none", data=signature.data),
    ):
        with pytest.raises(Unsigned):
            verify(Note(text="x\n", signatures=(other,)), [LOG.verifier])


def test_signing_again_replaces_ones_own_signature_and_keeps_the_others() -> None:
    note = sign(Note.parse(FOO_NOTE), LOG, WITNESS, at=5)
    again = sign(note, WITNESS, at=6)
    assert [each.name for each in again.signatures] == ["example.com/foo", LOG.name, WITNESS.name]
    assert again.signatures[:2] == note.signatures[:2]
    assert verify(again, [WITNESS.verifier])[0].at == 6
    with pytest.raises(Malformed, match="has no signature"):
        sign("x\n")
    with pytest.raises(Malformed, match="does not end in a line break"):
        sign("x", LOG)


# Cosignatures


def test_a_cosignature_is_what_c2sp_says() -> None:
    """c2sp.org/tlog-cosignature: 8 bytes of time, then Ed25519 over a header, the time and the checkpoint."""
    body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    signature = WITNESS.sign(body, at=1679315147)
    assert signature.data[:8].hex() == f"{1679315147:016x}"
    plain = Signer(name="x", kind=KeyKind.ED25519, seed=WITNESS.seed)
    assert signature.data[8:] == plain.sign(f"cosignature/v1\ntime 1679315147\n{body}").data
    [verified] = verify(Note(text=body, signatures=(signature,)), [WITNESS.verifier])
    assert verified.at == 1679315147


def test_the_time_of_a_cosignature_cannot_be_changed() -> None:
    signature = WITNESS.sign(str(HEAD), at=1_000)
    for time in (999, 1_001, 0, 2**63, 2**64 - 1):
        moved = Signature(name=WITNESS.name, key_id=signature.key_id, data=time.to_bytes(8) + signature.data[8:])
        with pytest.raises(InvalidSignature):
            WITNESS.verifier.check(str(HEAD), moved)


def test_a_time_beyond_what_the_format_takes_does_not_fit_though_it_is_signed() -> None:
    plain = Signer(name="x", kind=KeyKind.ED25519, seed=WITNESS.seed)
    for at, fits in ((2**63 - 1, True), (2**63, False)):
        data = at.to_bytes(8) + plain.sign(f"cosignature/v1\ntime {at}\n{HEAD}").data
        signature = Signature(name=WITNESS.name, key_id=WITNESS.verifier.key_id, data=data)
        if fits:
            assert WITNESS.verifier.check(str(HEAD), signature) == at
        else:
            with pytest.raises(InvalidSignature):
                WITNESS.verifier.check(str(HEAD), signature)


@pytest.mark.parametrize(("signer", "at"), [(LOG, 5), (WITNESS, None), (WITNESS, -1), (WITNESS, 2**63)])
def test_only_witnesses_tell_the_time(signer: Signer, at: int | None) -> None:
    with pytest.raises(ValueError, match="cannot sign with the time"):
        signer.sign("x\n", at=at)


# Checkpoints


def test_a_checkpoint_signed_and_cosigned() -> None:
    note = sign(sign_checkpoint(HEAD, LOG), WITNESS, at=1_700_000_000)
    opened = open_checkpoint(str(note), [LOG.verifier], witnesses=[WITNESS.verifier])
    assert opened.checkpoint == HEAD
    assert [each.verifier.name for each in opened.signed] == [LOG.name]
    assert [each.at for each in opened.cosigned] == [1_700_000_000]
    assert open_checkpoint(note, [LOG.verifier]).cosigned == ()
    assert open_checkpoint(sign_checkpoint(HEAD, LOG), [LOG.verifier], witnesses=[WITNESS.verifier]).cosigned == ()


def test_a_key_follows_another() -> None:
    old, new = generate(LOG.name), generate(LOG.name)
    both = sign_checkpoint(HEAD, old, new)
    for verifiers in ([old.verifier], [new.verifier], [old.verifier, new.verifier]):
        assert len(open_checkpoint(both, verifiers).signed) == len(verifiers)
    with pytest.raises(Unsigned):
        open_checkpoint(both, [LOG.verifier])


def test_a_witness_alone_is_not_the_log() -> None:
    note = sign(str(HEAD), WITNESS, at=1)
    with pytest.raises(Unsigned):
        open_checkpoint(note, [LOG.verifier], witnesses=[WITNESS.verifier])
    with pytest.raises(InvalidKey, match="a witness's key where a log's belongs"):
        open_checkpoint(note, [WITNESS.verifier])
    with pytest.raises(InvalidKey, match="a log's key where a witness's belongs"):
        open_checkpoint(note, [LOG.verifier], witnesses=[LOG.verifier])
    with pytest.raises(InvalidKey, match="a witness's key where a log's belongs"):
        sign_checkpoint(HEAD, WITNESS)


def test_a_forged_cosignature_spoils_the_checkpoint() -> None:
    forger = Signer(name=WITNESS.name, kind=KeyKind.COSIGNATURE, seed=bytes(32))
    line = forger.sign(str(HEAD), at=1)
    forged = Signature(name=line.name, key_id=WITNESS.verifier.key_id, data=line.data)
    note = Note(text=str(HEAD), signatures=(*sign_checkpoint(HEAD, LOG).signatures, forged))
    assert open_checkpoint(note, [LOG.verifier]).cosigned == ()
    with pytest.raises(InvalidSignature, match="witness"):
        open_checkpoint(note, [LOG.verifier], witnesses=[WITNESS.verifier])


def test_another_logs_checkpoint() -> None:
    other = Checkpoint(origin="example.com/staging", size=7, root=HEAD.root)
    note = sign_checkpoint(other, LOG)
    assert open_checkpoint(note, [LOG.verifier], origin="example.com/staging").checkpoint == other
    for origin in (None, LOG.name):
        with pytest.raises(WrongOrigin, match=r"of the log 'example\.com/staging', not of 'example\.com/audit'"):
            open_checkpoint(note, [LOG.verifier], origin=origin)


def test_a_later_epoch_is_the_same_log() -> None:
    later = Checkpoint(origin=f"{LOG.name}/epoch/2", size=7, root=HEAD.root)
    assert open_checkpoint(sign_checkpoint(later, LOG), [LOG.verifier]).checkpoint == later
    with pytest.raises(WrongOrigin):
        open_checkpoint(sign_checkpoint(later, LOG), [LOG.verifier], origin=LOG.name)
    for origin in (f"{LOG.name}/epoch/1", f"{LOG.name}/epoch/x", f"{LOG.name}/2", f"{LOG.name}/epoch/2/epoch/2"):
        strange = Checkpoint(origin=origin, size=7, root=HEAD.root)
        with pytest.raises(WrongOrigin):
            open_checkpoint(sign_checkpoint(strange, LOG), [LOG.verifier])


ROOT = to_base64(HEAD.root)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n\n",
        "log\n7\n",
        f"log\n7\n{ROOT}",
        f"log\n7\n{ROOT}\n\n",
        f"log\n7\n{ROOT}\n\nextension\n",
        f"log\n7\n{ROOT}\nextension",
        f"\n7\n{ROOT}\n",
        f"log\n\n{ROOT}\n",
        f"log\n07\n{ROOT}\n",
        f"log\n-7\n{ROOT}\n",
        f"log\n+7\n{ROOT}\n",
        f"log\n 7\n{ROOT}\n",
        f"log\n7 \n{ROOT}\n",
        f"log\n0x7\n{ROOT}\n",
        f"log\n7_0\n{ROOT}\n",
        f"log\n\u0667\n{ROOT}\n",
        f"log\n{MAX_LEAVES + 1}\n{ROOT}\n",
        f"log\n{'9' * 5_000}\n{ROOT}\n",
        f"log\n7\n{ROOT[:-1]}\n",
        f"log\n7\n {ROOT}\n",
        f"log\n7\n{ROOT[:-2]}9=\n",
        f"log\n7\n{to_base64(bytes(31))}\n",
        f"log\n7\n{to_base64(bytes(33))}\n",
        f"log\n7\n{HEAD.root.hex()}\n",
        f"log\n0\n{ROOT}\n",
        f"log\x00\n7\n{ROOT}\n",
        f"log\r\n7\r\n{ROOT}\r\n",
    ],
    ids=lambda text: ascii(text)[-50:],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(Malformed, match=r"^This is not a valid checkpoint: .*\.$"):
        Checkpoint.parse(text)


def test_extensions_are_kept_and_signed() -> None:
    text = f"log\n{MAX_LEAVES}\n{ROOT}\none\n— two\n"
    checkpoint = Checkpoint.parse(text)
    assert checkpoint.extensions == ("one", "— two")
    assert str(checkpoint) == text
    note = sign_checkpoint(checkpoint, LOG)
    assert open_checkpoint(str(note), [LOG.verifier], origin="log").checkpoint == checkpoint
    with pytest.raises(InvalidSignature):
        open_checkpoint(str(note).replace("one", "two"), [LOG.verifier], origin="log")


def test_the_checkpoint_of_an_empty_log() -> None:
    empty = Checkpoint(origin=LOG.name, size=0, root=EMPTY_ROOT)
    assert Checkpoint.parse(str(empty)) == empty
    assert str(empty) == f"{LOG.name}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"


# Fuzz


_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"), min_size=1, max_size=20)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, range(32)))), max_size=30)


@given(
    st.lists(_TEXTS, min_size=1, max_size=5),
    st.lists(
        st.builds(
            Signature, name=_NAMES, key_id=st.binary(min_size=4, max_size=4), data=st.binary(min_size=1, max_size=90)
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_notes_there_and_back(lines: list[str], signatures: list[Signature]) -> None:
    note = Note(text="".join(f"{line}\n" for line in lines), signatures=tuple(signatures))
    assert Note.parse(str(note)) == note == Note.parse(str(note).encode())


@given(
    _TEXTS.filter(bool),
    st.integers(1, MAX_LEAVES),
    st.binary(min_size=32, max_size=32),
    st.lists(_TEXTS.filter(bool), max_size=3),
)
def test_checkpoints_there_and_back(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin=origin, size=size, root=root, extensions=tuple(extensions))
    assert Checkpoint.parse(str(checkpoint)) == checkpoint


@given(_NAMES, st.sampled_from(KeyKind), st.binary(min_size=32, max_size=32))
def test_keys_there_and_back(name: str, kind: KeyKind, seed: bytes) -> None:
    signer = Signer(name=name, kind=kind, seed=seed)
    assert Signer.parse(signer.secret()) == signer
    assert Verifier.parse(str(signer.verifier)) == signer.verifier


COSIGNED = str(sign(sign_checkpoint(HEAD, LOG), WITNESS, at=1_700_000_000))


@settings(max_examples=300)
@given(st.integers(0, len(COSIGNED) - 1), st.integers(0, 4), st.text(max_size=4))
def test_no_change_of_a_checkpoint_passes(at: int, cut: int, put: str) -> None:
    """Whatever is changed is refused by a typed error, or left text and signatures as they were."""
    changed = COSIGNED[:at] + put + COSIGNED[at + cut :]
    try:
        opened = open_checkpoint(changed, [LOG.verifier], witnesses=[WITNESS.verifier])
    except LedgerError:
        return
    assert str(opened.note) == changed
    assert opened.checkpoint == HEAD
    assert opened.signed[0].signature == Note.parse(COSIGNED).signatures[0]
    assert opened.cosigned == () or opened.cosigned[0].at == 1_700_000_000


@given(st.one_of(st.text(), st.binary(), st.text(alphabet="— \nab=+/A0\x00\ud800", max_size=40)))
def test_readers_raise_their_own_errors_only(data: str | bytes) -> None:
    readers = [Note.parse, Checkpoint.parse, Verifier.parse, Signer.parse, lambda text: read_number(text, "number")]
    for read in readers if isinstance(data, str) else [Note.parse]:
        try:
            assert read(data) is not None
        except LedgerError as error:
            assert not re.search("[\x00-\x09\x0b-\x1f\ud800-\udfff]", str(error))  # noqa: PT017
    if isinstance(data, str):
        with suppress(ValueError):
            assert to_base64(from_base64(data)) == data
