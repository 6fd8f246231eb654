"""Files of proofs: what they prove, every way to forge them, and the readers."""

import base64
import re
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger.tlog.canonical import EPOCH_V1, LOG_V1, TASK_V1, Uncanonical, canonical, leaf_hash, parse
from audit.ledger.tlog.checkpoint import open_checkpoint, sign
from audit.ledger.tlog.errors import (
    InvalidProof,
    InvalidSignature,
    LedgerError,
    Malformed,
    Unproven,
    Unsigned,
    Unwitnessed,
    WrongOrigin,
)
from audit.ledger.tlog.merkle import inclusion_proof, node_hash
from audit.ledger.tlog.note import KeyKind, generate, to_base64
from audit.ledger.tlog.proof import Growth, Proof, check, check_growth, parse_all
from tests.support.ledger_example import (
    COSIGNED_AT,
    DOCUMENT,
    EARLIER,
    KEYS,
    LEDGER,
    LOG,
    LOG_ROW,
    OTHER_ID,
    TASK,
    TASK_ID,
    WITNESS,
    Log,
    a_log_row,
    a_task,
    an_approval,
)


def proofs(*indexes: int) -> str:
    return "".join(str(LEDGER.proof(index)) for index in indexes)


# What holds


def test_a_task_alone() -> None:
    checked = check(proofs(3), KEYS)
    assert checked.task_id == TASK_ID
    assert checked.task is not None
    assert checked.task.row == parse(TASK)[1]
    assert checked.task.row["summary"] == "Rotate the key of Zoë\u2019s backup,\nthen tell her"
    assert checked.task.row["plan"] == '{"steps": ["make", "swap"], "budget": 12.50}'
    assert checked.task.row_hash == leaf_hash(TASK)
    assert (checked.task.index, checked.task.head.checkpoint.size, checked.log) == (3, 7, ())
    assert checked.task.head.cosigned == ()


def test_a_task_with_its_log_in_the_order_of_the_log() -> None:
    checked = check(proofs(3, 2, 0), KEYS, witnesses=[WITNESS.verifier], quorum=1)
    assert checked.task is not None
    assert [(each.row["id"], each.index) for each in checked.log] == [(1200, 0), (1207, 2)]
    assert {each.head.checkpoint.size for each in checked.log} == {7}
    assert [each.at for each in checked.task.head.cosigned] == [COSIGNED_AT]


def test_rows_of_a_log_without_the_task() -> None:
    checked = check(proofs(2, 0), KEYS)
    assert (checked.task, checked.task_id, len(checked.log)) == (None, TASK_ID, 2)


def test_proofs_under_two_checkpoints() -> None:
    checked = check(str(LEDGER.proof(3, 5)) + str(LEDGER.proof(2, 4)), KEYS)
    assert checked.task is not None
    assert (checked.task.head.checkpoint.size, checked.log[0].head.checkpoint.size) == (5, 4)


def test_every_proof_of_a_file_is_one_of_its_own() -> None:
    text = proofs(3, 0, 2)
    assert [str(each) for each in parse_all(text)] == [proofs(3), proofs(0), proofs(2)]
    for each in parse_all(text):
        assert check(str(each), KEYS).task_id == TASK_ID


# What does not


def unproven(text: str, problem: str, error: type[Unproven] = InvalidProof, **trust) -> None:
    with pytest.raises(error, match=problem):
        check(text, trust.pop("keys", KEYS), **trust)


def test_a_row_that_was_edited() -> None:
    for edited in (
        a_task(decided_by="mallory"),
        a_task(plan='{"steps": ["make", "swap"], "budget": 12.5}'),
        a_task(finished_at=1_732_375_272_250_001),
        a_task(correlation_id=None),
        a_task(services_touched=["vault,say"]),
        TASK + b"\n",
        b"",
    ):
        unproven(str(LEDGER.proof(3, extra=edited)), "Leaf 3 with its proof gives the root")


def test_an_index_that_was_moved() -> None:
    for index in (0, 1, 2, 4, 5, 6):
        unproven(str(LEDGER.proof(3, index=index)), f"[lL]eaf {index}")
    unproven(str(LEDGER.proof(3, index=7)), "There is no leaf 7 in a tree of 7")


def test_siblings_dropped_added_and_changed() -> None:
    hashes = LEDGER.proof(3).hashes
    unproven(str(LEDGER.proof(3, hashes=hashes[:-1])), "fewer hashes")
    unproven(str(LEDGER.proof(3, hashes=(*hashes, bytes(32)))), "more hashes")
    unproven(str(LEDGER.proof(3, hashes=hashes[::-1])), "gives the root")
    unproven(str(LEDGER.proof(3, hashes=(bytes(32), *hashes[1:]))), "gives the root")


def test_a_root_that_was_replaced() -> None:
    forged = Log(a_log_row(), b"other", LOG_ROW, a_task(decided_by="mallory"))
    checkpoint = str(LEDGER.checkpoint(4))
    genuine, false = (to_base64(each.head(4).root) for each in (LEDGER, forged))
    unproven(
        str(forged.proof(3, checkpoint=checkpoint.replace(genuine, false))), "does not fit the text", InvalidSignature
    )
    unproven(str(forged.proof(3, checkpoint=checkpoint)), "gives the root")


def test_another_key_and_another_log() -> None:
    stranger = generate(LOG.name)
    for signers, error in (((stranger,), Unsigned), ((generate("example.com/other"),), Unsigned)):
        unproven(str(LEDGER.proof(3, checkpoint=str(LEDGER.checkpoint(7, *signers)))), "None of the known", error)
    unproven(
        proofs(3), "of the log 'example.com/audit', not of 'example.com/prod'", WrongOrigin, origin="example.com/prod"
    )


def test_an_interior_node_is_no_row() -> None:
    """A node's two children, offered as a row, hash as a leaf and not as a node."""
    left, right = LEDGER.node(0, 2), LEDGER.node(0, 3)
    assert node_hash(left, right) == LEDGER.node(1, 1)
    hashes = inclusion_proof(3, 7, LEDGER.node)[1:]
    for index in (1, 2, 3):
        with pytest.raises(InvalidProof):
            check(str(LEDGER.proof(3, index=index, extra=left + right, hashes=hashes)), KEYS)
        with pytest.raises(InvalidProof):
            check(str(LEDGER.proof(3, index=index, extra=b"\x01" + left + right, hashes=hashes)), KEYS)


def test_a_log_row_of_another_task() -> None:
    unproven(proofs(3, 2, 4), f"is of task {TASK_ID}, but leaf 4 belongs to task {OTHER_ID}")
    unproven(proofs(2, 4), "but leaf 4 belongs to task")
    unproven(proofs(3, 1), "but leaf 1 belongs to task")


def test_one_task_is_proven_once() -> None:
    unproven(proofs(3, 6), f"Leaves 3 and 6 are both the task {TASK_ID}")
    unproven(proofs(3, 3), "Leaf 3 occurs twice")


def test_a_leaf_that_is_no_row() -> None:
    unproven(proofs(5), "Leaf 5 is in the log, but it is not a row of an audit table: header: names no form")
    nameless = Log(
        canonical(TASK_V1, parse(TASK)[1] | {"id": None}), canonical(LOG_V1, parse(LOG_ROW)[1] | {"task_id": None})
    )
    for index in (0, 1):
        unproven(str(nameless.proof(index)), "it has no id")
    epoch = {column.name: None for column in EPOCH_V1.columns}
    unproven(str(Log(canonical(EPOCH_V1, epoch)).proof(0)), r"it is a row of audit\.epoch, not of a task or its log")
    unproven(str(LEDGER.proof(3, extra=None)), "does not carry the row")


def test_a_fork_within_a_file() -> None:
    forked = Log(*LEDGER.rows[:6], b"another")
    unproven(proofs(3) + str(forked.proof(2)), "one size with different roots: a fork")


def test_proofs_from_two_logs() -> None:
    other = generate("example.com/other")
    head = replace(LEDGER.head(), origin=other.name)
    text = proofs(3) + str(LEDGER.proof(2, checkpoint=str(sign(head, other))))
    unproven(text, "mixes proofs from different logs", keys=[LOG.verifier, other.verifier])


def test_too_few_witnesses() -> None:
    second = generate("example.com/second", KeyKind.COSIGNATURE)
    trust = {"witnesses": [WITNESS.verifier, second.verifier]}
    assert check(proofs(3), KEYS, **trust, quorum=1).task
    unproven(
        proofs(3), r"2 must have cosigned the checkpoint; it was 'example\.com/witness", Unwitnessed, **trust, quorum=2
    )
    bare = str(LEDGER.proof(3, checkpoint=str(LEDGER.checkpoint(witness=None))))
    unproven(bare, "it was nobody", Unwitnessed, **trust, quorum=1)
    # One witness that signs twice is still one.
    note = LEDGER.checkpoint()
    again = WITNESS.sign(note.text, at=COSIGNED_AT + 1)
    twice = str(LEDGER.proof(3, checkpoint=str(replace(note, signatures=(*note.signatures, again)))))
    assert check(twice, KEYS, **trust, quorum=1).task
    unproven(twice, "2 must have", Unwitnessed, **trust, quorum=2)


# The format


def test_the_examples_of_transparency_dev() -> None:
    """From transparency-dev/formats, proof/tlog_proof_test.go; their checkpoints are placeholders."""
    h1, h2 = sha256(b"hash1").digest(), sha256(b"hash2").digest()
    e1, e2 = base64.b64encode(h1).decode(), base64.b64encode(h2).decode()
    for proof, text in (
        (
            Proof(index=5, hashes=(h1, h2), checkpoint="test checkpoint\n"),
            f"c2sp.org/tlog-proof@v1\nindex 5\n{e1}\n{e2}\n\ntest checkpoint\n",
        ),
        (
            Proof(index=10, hashes=(h1,), checkpoint="checkpoint data\n", extra=b"extra information"),
            f"c2sp.org/tlog-proof@v1\nextra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 10\n{e1}\n\ncheckpoint data\n",
        ),
        (
            Proof(index=0, hashes=(), checkpoint="checkpoint\n"),
            "c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n",
        ),
    ):
        assert str(proof) == text
        assert Proof.parse(text) == proof
        assert parse_all(text) == (proof,)


@pytest.mark.parametrize(
    "text",
    [
        # transparency-dev/formats, proof/tlog_proof_test.go
        "wrong-header\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\n\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex notanumber\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex -5\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n\ncheckpoint\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{to_base64(bytes(64))}\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + "a" * 65 * 1024 + "\n",
        # others
        "",
        "c2sp.org/tlog-proof@v1",
        "c2sp.org/tlog-proof@v1\n",
        "c2sp.org/tlog-proof@v2\nindex 0\n\ncheckpoint\n",
        " c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n",
        "\ufeffc2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n",
        "\nc2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint",
        "c2sp.org/tlog-proof@v1\nindex 00\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex \u0660\n\ncheckpoint\n",
        f"c2sp.org/tlog-proof@v1\nindex {2**63}\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\nextra AAAA\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra AAAA\nextra AAAA\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra AAAA\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra AAA=\nextra AA\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\r\nindex 0\r\n\r\ncheckpoint\r\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + f"{to_base64(bytes(32))}\n" * 64 + "\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n\nx\nc2sp.org/tlog-proof@v1\n",
    ],
    ids=lambda text: ascii(text)[-60:],
)
def test_what_is_no_proof(text: str) -> None:
    for read in (Proof.parse, parse_all, lambda each: check(each, KEYS)):
        with pytest.raises(Malformed, match=r"^This is not a valid proof: .*\.$"):
            read(text)


def test_something_between_proofs() -> None:
    for text in (proofs(3) + "\n" + proofs(2), "\n" + proofs(3), proofs(3) + "and more\n", proofs(3) + "\n"):
        with pytest.raises(Malformed):
            check(text, KEYS)


def test_a_checkpoint_cannot_hide_a_second_proof() -> None:
    with pytest.raises(Malformed, match="first line of another proof"):
        Proof(index=0, hashes=(), checkpoint="c2sp.org/tlog-proof@v1\n7\n")


_HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=5).map(tuple)


@given(st.integers(0, 2**63 - 1), _HASHES, st.none() | st.binary(max_size=50))
def test_proofs_there_and_back(index: int, hashes: tuple[bytes, ...], extra: bytes | None) -> None:
    proof = Proof(index=index, hashes=hashes, checkpoint=str(LEDGER.checkpoint(4)), extra=extra)
    assert Proof.parse(str(proof)) == proof
    assert parse_all(str(proof) * 2) == (proof, proof)


@given(st.integers(0, 2**63 - 1), _HASHES)
def test_growth_there_and_back(old: int, hashes: tuple[bytes, ...]) -> None:
    growth = Growth(old_size=old, hashes=hashes, checkpoint=str(LEDGER.checkpoint(4)))
    assert Growth.parse(str(growth)) == growth


FILE = proofs(3, 2)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(0, 4), st.text(max_size=4))
def test_no_change_of_a_file_proves_anything_else(at: int, cut: int, put: str) -> None:
    changed = FILE[:at] + put + FILE[at + cut :]
    try:
        checked = check(changed, KEYS)
    except LedgerError:
        return
    # All that can be changed are the signatures of the witness, whom nobody was told to know.
    assert checked.task is not None
    assert checked.task.row == parse(TASK)[1]
    assert [each.row for each in checked.log] == [parse(LOG_ROW)[1]]
    assert {each.head.checkpoint.root for each in (checked.task, *checked.log)} == {LEDGER.head().root}


@given(st.one_of(st.text(), st.text(alphabet="\n— =A/0c2sp.org/tlog-proof@v1 index extra old", max_size=80)))
def test_readers_raise_their_own_errors_only(text: str) -> None:
    for read in (Proof.parse, parse_all, Growth.parse):
        try:
            read(text)
        except LedgerError:
            continue


# Reading canonical bytes


@pytest.mark.parametrize(("form", "data"), [(TASK_V1, TASK), (LOG_V1, LOG_ROW)])
def test_canonical_bytes_are_read_back(form, data: bytes) -> None:
    read, row = parse(data)
    assert read is form
    assert list(row) == [column.name for column in form.columns]
    assert canonical(form, row) == data


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        (b"audit.task v1", b"audit.task v2", "header"),
        (b"audit.task v1\n", b"audit.task v1", "header"),
        (b"action 10:", b"action 9:", "summary"),
        (b"action 10:", b"action 010:", "action"),
        (b"action 10:", b"action -", "action"),
        (b"action 10:", b"actor 10:", "action"),
        (b"priority 1:2", b"priority 2:02", "bytes"),
        (b"priority 1:2", b"priority 1:x", "priority"),
        (b"priority 1:2", b"priority 2: 2", "bytes"),
        (b"priority 1:2", b"priority 2:-0", "bytes"),
        (b"revision 1:4", b"revision 3:1_0", "bytes"),
        (b"correlation_id 0:", b"correlation_id 1:\xff", "correlation_id"),
        (b"parent -", b"parent 36:01935A2E-7C00-7ABC-8DEF-0123456789AB", "bytes"),
        (b"parent -", b"parent 2:no", "parent"),
        (b'["vault","say \\"hi\\""]', b'["vault", "say\\"hi\\""]', "bytes"),
        (b'22:["vault","say \\"hi\\""]', b'22:["vault","say \\"hi\\"" ', "services_touched"),
        (b'22:["vault","say \\"hi\\""]', b"4:null", "bytes"),
        (b'22:["vault","say \\"hi\\""]', b"3:[1]", "services_touched"),
        (b'22:["vault","say \\"hi\\""]', b"100000:" + b"[" * 100_000, "services_touched"),
        (b"salt 32:9b1d", b"salt 32:9B1D", "bytes"),
        (b"salt 32:9b1d", b"salt 32:zz1d", "salt"),
        (b"finished_xid 5:74213\n", b"finished_xid 5:74213", "bytes"),
        (b"finished_xid 5:74213\n", b"finished_xid 5:74213\n\n", "bytes"),
        (b"finished_xid 5:74213\n", b"finished_xid 9999999999:74213\n", "bytes"),
        (b"finished_xid 5:74213\n", b"finished_xid 5000:" + b"9" * 5000 + b"\n", "finished_xid"),
        (b"finished_xid 5:74213\n", b"", "finished_xid"),
    ],
)
def test_bytes_that_are_not_canonical(old: bytes, new: bytes, column: str) -> None:
    assert old in TASK
    with pytest.raises(Uncanonical) as refused:
        parse(TASK.replace(old, new))
    assert refused.value.column == column


@given(st.integers(0, len(LOG_ROW) - 1), st.integers(0, 6), st.binary(max_size=6))
def test_reading_raises_its_own_errors_only(at: int, cut: int, put: bytes) -> None:
    changed = LOG_ROW[:at] + put + LOG_ROW[at + cut :]
    try:
        form, row = parse(changed)
    except Uncanonical:
        return
    assert canonical(form, row) == changed


def test_the_checkpoint_of_a_proof_opens_on_its_own() -> None:
    [proof] = parse_all(proofs(3))
    assert open_checkpoint(proof.checkpoint, KEYS).checkpoint == LEDGER.head()


# The plan

PLAN = sha256(parse(TASK)[1]["plan"].encode()).hexdigest()


def with_approval(approval: bytes, task: bytes = TASK) -> str:
    log = Log(approval, task, LOG_ROW)
    return "".join(str(log.proof(index)) for index in range(3))


def test_the_plan_that_the_task_holds_is_the_one_that_was_approved() -> None:
    checked = check(with_approval(EARLIER), KEYS)
    assert checked.approval is not None
    assert (checked.approval.row["id"], checked.approval.index) == (1200, 0)
    # Also where the task was asked for as an approved one.
    assert check(with_approval(an_approval(from_status=None)), KEYS).approval
    # There is nothing to compare with where the file has not both.
    assert check(proofs(3), KEYS).approval is None
    assert check(proofs(2, 0), KEYS).approval is None
    # Work that goes on after a pause, or anew, approves no plan.
    for status in ("paused", "executing"):
        assert check(with_approval(an_approval(from_status=status, detail=None)), KEYS).approval is None


def test_a_task_without_a_plan_was_approved_without_one() -> None:
    nothing = an_approval(detail='{"plan_sha256": null}')
    assert check(with_approval(nothing, a_task(plan=None)), KEYS).approval
    where = r"its approval \(log row 1200, leaf 0\)"
    unproven(with_approval(nothing), f"holds a plan with the SHA-256 {PLAN}, and {where} is of no plan")
    unproven(with_approval(EARLIER, a_task(plan=None)), f"holds no plan, and {where} is of the plan {PLAN}")


def test_another_plan_than_was_approved_is_no_proof() -> None:
    changed = '{"steps": ["make", "swap"], "budget": 12.5}'
    digest = sha256(changed.encode()).hexdigest()
    unproven(
        with_approval(EARLIER, a_task(plan=changed)),
        rf"The plan is not the one that was approved: the task \(leaf 1\) holds a plan with the SHA-256 {digest}, and "
        rf"its approval \(log row 1200, leaf 0\) is of the plan {PLAN}\.",
    )


@pytest.mark.parametrize("detail", [None, "{}", "[]", '"x"', "7", "[" * 9000 + "]" * 9000])
def test_an_approval_that_names_no_plan_is_no_proof(detail: str | None) -> None:
    unproven(
        with_approval(an_approval(detail=detail)), r"The approval \(log row 1200, leaf 0\) does not say which plan"
    )


# The document


def test_the_documents_example_holds() -> None:
    ledger = Log(LOG_ROW, TASK, b"another row")
    keys, nodes, checkpoint, proof, growth = re.findall(
        r"^```\n(.*?)^```$", DOCUMENT.split("## A log of three rows")[1], re.MULTILINE | re.DOTALL
    )
    assert keys.split() == [LOG.secret(), str(LOG.verifier), WITNESS.secret(), str(WITNESS.verifier)]
    written = [line.rsplit(None, 1) for line in nodes.splitlines()]
    assert {name: value for name, value in written if name != "root"} == {
        f"{level} {index}": ledger.node(level, index).hex() for level, index in ((0, 0), (0, 1), (0, 2), (1, 0))
    }
    assert written[-1] == ["root", ledger.head().root.hex()]
    assert checkpoint == str(ledger.checkpoint())
    extra = to_base64(TASK)
    assert proof == str(ledger.proof(1)).replace(extra, f"{extra[:60]}…")
    assert f"60 of {len(extra)} characters" in DOCUMENT
    assert growth == str(ledger.growth(1))
    assert check(proof.replace(f"{extra[:60]}…", extra), KEYS, witnesses=[WITNESS.verifier], quorum=1).task
    assert check_growth(growth, ledger.checkpoint(1), KEYS)
