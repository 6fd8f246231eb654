"""Proofs that a log has only grown: what they prove, every way to forge them, and their reader."""

import pytest

from audit.ledger.tlog.checkpoint import sign
from audit.ledger.tlog.errors import (
    InvalidProof,
    Malformed,
    Unsigned,
    Unwitnessed,
)
from audit.ledger.tlog.note import generate, to_base64
from audit.ledger.tlog.proof import Growth, check_growth
from tests.support.ledger_example import (
    EARLIER,
    KEYS,
    LEDGER,
    WITNESS,
    Log,
)

# Growth


def test_the_example_of_a_request_to_a_witness() -> None:
    """c2sp.org/tlog-witness; its first checkpoint line by line, so that it need not be signed."""
    text = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""
    growth = Growth.parse(text)
    assert (growth.old_size, len(growth.hashes)) == (20852014, 4)
    assert str(growth) == text


@pytest.mark.parametrize("old", range(8))
def test_a_log_that_grew(old: int) -> None:
    before, after = check_growth(str(LEDGER.growth(old)), LEDGER.checkpoint(old), KEYS)
    assert (before.checkpoint.size, after.checkpoint.size) == (old, 7)


def test_a_log_that_was_rewritten() -> None:
    rewritten = Log(EARLIER, b"other", *LEDGER.rows[2:])
    for old in range(2, 7):
        with pytest.raises(InvalidProof, match="a tree was rewritten"):
            check_growth(str(rewritten.growth(old)), LEDGER.checkpoint(old), KEYS)
    with pytest.raises(InvalidProof, match="a fork"):
        check_growth(str(rewritten.growth(7)), LEDGER.checkpoint(7), KEYS)


def test_a_log_that_was_rolled_back() -> None:
    with pytest.raises(InvalidProof, match="had 7 leaves and now has 5: it was rolled back"):
        check_growth(str(LEDGER.growth(5, 5)), LEDGER.checkpoint(7), KEYS)


def test_a_growth_proof_that_does_not_fit() -> None:
    hashes = LEDGER.growth(4).hashes
    for growth, old, problem in (
        (LEDGER.growth(4), 5, "starts from 4 leaves, the older checkpoint has 5"),
        (LEDGER.growth(4, hashes=hashes[:-1]), 4, r"(lacks its|too few) hashes"),
        (LEDGER.growth(4, hashes=(*hashes, bytes(32))), 4, "too many"),
        (LEDGER.growth(4, hashes=(bytes(32),)), 4, "rewritten"),
        (LEDGER.growth(0, hashes=(bytes(32),)), 0, "nothing to prove"),
        (LEDGER.growth(7, hashes=(bytes(32),)), 7, "has no hashes"),
    ):
        with pytest.raises(InvalidProof, match=problem):
            check_growth(str(growth), LEDGER.checkpoint(old), KEYS)


def test_growth_of_another_log_or_by_another_key() -> None:
    other = generate("example.com/other")
    foreign = str(sign(LEDGER.head(4, origin=other.name), other))
    with pytest.raises(InvalidProof, match=r"of different logs: 'example\.com/other' and 'example\.com/audit'"):
        check_growth(str(LEDGER.growth(4)), foreign, [*KEYS, other.verifier])
    with pytest.raises(Unsigned):
        check_growth(str(LEDGER.growth(4)), foreign, KEYS)
    with pytest.raises(Unsigned):
        check_growth(str(LEDGER.growth(4)), LEDGER.checkpoint(4), [other.verifier])
    with pytest.raises(Unwitnessed):
        check_growth(
            str(LEDGER.growth(4, checkpoint=str(LEDGER.checkpoint(witness=None)))),
            LEDGER.checkpoint(4),
            KEYS,
            witnesses=[WITNESS.verifier],
            quorum=1,
        )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "old",
        "old \n\nx\n",
        "old 04\n\nx\n",
        "old -4\n\nx\n",
        "new 4\n\nx\n",
        "old 4\nnot base64\n\nx\n",
        f"old 4\n{to_base64(bytes(31))}\n\nx\n",
        "old 4\n" + f"{to_base64(bytes(32))}\n" * 64 + "\nx\n",
        f"old 4\n{to_base64(bytes(32))}\n",
    ],
    ids=lambda text: ascii(text)[-40:],
)
def test_what_is_no_growth_proof(text: str) -> None:
    with pytest.raises(Malformed, match=r"^This is not a valid consistency proof: "):
        Growth.parse(text)
