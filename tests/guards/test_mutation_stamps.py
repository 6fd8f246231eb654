"""Every stamp taken away once: what the database writes into a row must then be the caller's, or missing."""

import pytest

from audit.ids import uuid7
from audit.status import Status
from tests.support.factories import sql, task_in
from tests.support.rules import assignments, observed, rewrite

pytestmark = pytest.mark.django_db

_WRITE, _LOG, _ENTRY = "audit_task_write_v1", "audit_log_write_v1", "audit_entry_write_v1"
_EVENT = "audit_event_write_v1"
_HOUR_AGO = (
    "SET LOCAL session_replication_role = replica;"
    " UPDATE audit_task SET status_since = now() - interval '1 hour' WHERE id = {id};"
    " SET LOCAL session_replication_role = origin"
)
_REPLICA = "SET LOCAL session_replication_role = replica"


def _set(assignment):
    return f"UPDATE audit_task SET {assignment} WHERE id = {{id}}"


def _new(**values):
    row = {"id": "{id}", "action": "'x'"} | values
    return f"INSERT INTO audit_task ({', '.join(row)}) VALUES ({', '.join(row.values())})"


def _entry(assignment):
    return f"UPDATE audit_pause_queue SET {assignment} WHERE task_id = {{id}}"


def _paused(**values):
    row = {"task_id": "id"} | values
    return (
        "WITH paused AS (UPDATE audit_task SET status = 'paused' WHERE id = {id} RETURNING id)"
        f" INSERT INTO audit_pause_queue ({', '.join(row)}) SELECT {', '.join(row.values())} FROM paused"
    )


_NOTE = (
    "INSERT INTO audit_executionlog (task_id, kind, at, db_role, row_version, xid, actor)"
    " VALUES ({id}, 'note', '2001-01-01', 'x', 9, '7', '')"
)
_EMITTED = (
    "INSERT INTO audit_event (name, emitted_at, db_role, emitted_by) VALUES ('build-42', '2001-01-01', 'x', '{by}')"
)
_ROLE = "'db:' || session_user"

# Each assignment of each function: the status of a task (None for a new one), the statements, and what holds of the row
# while the rule stands. Several where the same words stand in several places.
_STAMPS = {
    _WRITE: {
        "NEW.status_was := OLD.status;": [
            (
                Status.APPROVED,
                (_set("status = 'executing', status_was = 'completed'"),),
                "task.status_was = 'approved' AND log.from_status = 'approved'",
            )
        ],
        "NEW.actor := coalesce(nullif(ltrim(NEW.actor, chr(1)), ''), 'db:' || session_user);": [
            (None, (_new(actor="chr(1) || 'eve'"),), "task.actor = 'eve'"),
            (None, (_new(),), f"task.actor = {_ROLE}"),
        ],
        "NEW.actor := ltrim(NEW.actor, chr(1));": [
            (Status.PENDING, (_set("actor = 'carol', revision = revision + 1"),), "task.actor = 'carol'")
        ],
        "NEW.revision := OLD.revision + 1;": [
            (Status.PENDING, (_set("summary = 'x'"),), "task.revision = 2"),
            (Status.PENDING, (_set("revision = 9"),), "task.revision = 2"),
        ],
        "NEW.actor := 'db:' || session_user;": [
            (Status.PENDING, (_set("summary = 'x'"),), f"task.actor = {_ROLE}"),
            (Status.PENDING, (_set("actor = 'bob'"),), f"task.actor = {_ROLE}"),
        ],
        "NEW.started_at := OLD.started_at;": [
            (Status.EXECUTING, (_set("started_at = '2001-01-01'"),), "task.started_at > '2002-01-01'")
        ],
        "NEW.status_since := OLD.status_since;": [
            (Status.PENDING, (_set("status_since = '2001-01-01'"),), "task.status_since = task.recorded_at")
        ],
        "NEW.executing_ms := OLD.executing_ms;": [
            (Status.APPROVED, (_set("executing_ms = 77"),), "task.executing_ms = 0")
        ],
        "NEW.paused_ms := OLD.paused_ms;": [(Status.APPROVED, (_set("paused_ms = 77"),), "task.paused_ms = 0")],
        "NEW.status_since := moment;": [
            (
                Status.PENDING,
                (_set("status = 'approved'"),),
                "task.status_since > task.recorded_at AND log.at = task.status_since",
            ),
            (None, (_new(status_since="'2001-01-01'"),), "task.status_since = task.recorded_at"),
        ],
        "NEW.decided_at := moment;": [(Status.PENDING, (_set("status = 'approved'"),), "task.decided_at IS NOT NULL")],
        "NEW.decided_by := NEW.actor;": [
            (Status.PENDING, (_set("status = 'approved'"),), f"task.decided_by = {_ROLE}")
        ],
        "NEW.executing_ms := OLD.executing_ms + greatest(extract(epoch FROM moment - OLD.status_since) * 1000,"
        " 0)::bigint;": [
            (
                Status.EXECUTING,
                (_HOUR_AGO, _set("status = 'approved'")),
                "task.executing_ms BETWEEN 3600000 AND 4200000 AND task.paused_ms = 0",
            )
        ],
        "NEW.lease_expires_at := NULL;": [
            (Status.EXECUTING, (_set("status = 'failed'"),), "task.lease_expires_at IS NULL")
        ],
        "NEW.claim_token := NULL;": [(Status.EXECUTING, (_set("status = 'approved'"),), "task.claim_token IS NULL")],
        "NEW.claimed_by := '';": [(Status.EXECUTING, (_set("status = 'paused'"),), "task.claimed_by = ''")],
        "NEW.paused_ms := OLD.paused_ms + greatest(extract(epoch FROM moment - OLD.status_since) * 1000, 0)::bigint;": [
            (
                Status.PAUSED,
                (_HOUR_AGO, _set("status = 'failed'")),
                "task.paused_ms BETWEEN 3600000 AND 4200000 AND task.executing_ms = 0",
            )
        ],
        "NEW.started_at := coalesce(OLD.started_at, moment);": [
            (Status.APPROVED, (_set("status = 'executing'"),), "task.started_at = task.status_since")
        ],
        "NEW.finished_at := moment;": [
            (
                Status.EXECUTING,
                (_set("status = 'failed', finished_at = '2001-01-01'"),),
                "task.finished_at > '2002-01-01'",
            ),
            (None, (_new(status="'failed'"),), "task.finished_at = task.recorded_at"),
        ],
        "NEW.revision := 1;": [(None, (_new(revision="77"),), "task.revision = 1")],
        "NEW.recorded_at := moment;": [(None, (_new(recorded_at="'2001-01-01'"),), "task.recorded_at > '2002-01-01'")],
        "NEW.status_was := NULL;": [(None, (_new(status_was="'paused'"),), "task.status_was IS NULL")],
        "NEW.available_at := coalesce(NEW.available_at, NEW.created_at);": [
            (None, (_new(),), "task.available_at = task.created_at")
        ],
        "NEW.executing_ms := coalesce(NEW.executing_ms, CASE WHEN ends AND isfinite(NEW.started_at) AND"
        " isfinite(NEW.finished_at) THEN greatest(extract(epoch FROM NEW.finished_at - NEW.started_at) * 1000,"
        " 0)::bigint END, 0);": [
            (
                None,
                (_new(status="'failed'", started_at="'2001-01-01 00:00'", finished_at="'2001-01-01 00:01'"),),
                "task.executing_ms = 60000",
            )
        ],
        "NEW.paused_ms := coalesce(NEW.paused_ms, 0);": [(None, (_new(),), "task.paused_ms = 0")],
        "NEW.row_version := 1;": [(None, (_new(status="'failed'", row_version="9"),), "task.row_version = 1")],
        "NEW.finished_xid := pg_current_xact_id();": [
            (None, (_new(status="'failed'", finished_xid="'7'"),), "task.finished_xid = pg_current_xact_id()")
        ],
        "NEW.claim_token := coalesce(NEW.claim_token, gen_random_uuid());": [
            (Status.APPROVED, (_set("status = 'executing'"),), "task.claim_token IS NOT NULL")
        ],
        "NEW.lease_expires_at := coalesce(NEW.lease_expires_at, moment + interval '5 minutes');": [
            (Status.APPROVED, (_set("status = 'executing'"),), "task.lease_expires_at > now()")
        ],
        "NEW.claimed_by := coalesce(nullif(NEW.claimed_by, ''), NEW.actor);": [
            (Status.APPROVED, (_set("status = 'executing'"),), f"task.claimed_by = {_ROLE}")
        ],
    },
    _LOG: {
        "NEW.at := clock_timestamp();": [(Status.PENDING, (_NOTE,), "log.at > '2002-01-01'")],
        "NEW.db_role := session_user;": [(Status.PENDING, (_NOTE,), "log.db_role = session_user")],
        "NEW.row_version := 1;": [(Status.PENDING, (_NOTE,), "log.row_version = 1")],
        "NEW.xid := pg_current_xact_id();": [(Status.PENDING, (_NOTE,), "log.xid = pg_current_xact_id()")],
        "NEW.actor := 'db:' || session_user;": [(Status.PENDING, (_NOTE,), f"log.actor = {_ROLE}")],
    },
    _ENTRY: {
        "NEW.actor := coalesce(nullif(ltrim(NEW.actor, chr(1)), ''), 'db:' || session_user);": [
            (Status.PAUSED, (_entry("actor = 'carol', revision = revision + 1"),), "entry.actor = 'carol'")
        ],
        "NEW.revision := OLD.revision + 1;": [(Status.PAUSED, (_entry("revision = 9"),), "entry.revision = 2")],
        "NEW.actor := 'db:' || session_user;": [
            (Status.PAUSED, (_entry("actor = 'carol'"),), f"entry.actor = {_ROLE}"),
            (Status.APPROVED, (_paused(),), f"entry.actor = {_ROLE}"),
        ],
        "NEW.revision := 1;": [(Status.APPROVED, (_paused(revision="9"),), "entry.revision = 1")],
        "NEW.paused_by := NEW.actor;": [
            (Status.APPROVED, (_paused(paused_by="'alice'"),), f"entry.paused_by = {_ROLE}")
        ],
        "NEW.actor := ltrim(NEW.actor, chr(1));": [
            (Status.APPROVED, (_paused(actor="chr(1) || 'eve'"),), "entry.actor = 'eve'")
        ],
        "NEW.paused_by := coalesce(nullif(NEW.paused_by, ''), NEW.actor);": [
            (Status.APPROVED, (_paused(actor="'eve'"),), "entry.paused_by = 'eve'")
        ],
        "NEW.due_at := coalesce(NEW.resume_after, NEW.paused_at);": [
            (Status.PAUSED, (_entry("resume_after = '2001-01-01'"),), "entry.due_at = '2001-01-01'")
        ],
    },
    _EVENT: {
        "NEW.emitted_at := clock_timestamp();": [
            (Status.PENDING, (_EMITTED.format(by=""),), "event.emitted_at > '2002-01-01'")
        ],
        "NEW.db_role := session_user;": [(Status.PENDING, (_EMITTED.format(by=""),), "event.db_role = session_user")],
        "NEW.emitted_by := 'db:' || session_user;": [
            (Status.PENDING, (_EMITTED.format(by=""),), f"event.emitted_by = {_ROLE}")
        ],
    },
    "audit_actor_named_v1": {
        "NEW.actor := E'\\x01' OPERATOR(pg_catalog.||) NEW.actor;": [
            (Status.PENDING, (_set("actor = 'carol', revision = revision + 1"),), "task.actor = 'carol'"),
            (Status.PAUSED, (_entry("actor = 'carol', revision = revision + 1"),), "entry.actor = 'carol'"),
        ],
    },
}


def _plain(text):
    return " ".join(text.split())


@pytest.mark.parametrize("function", _STAMPS)
def test_each_stamp_is_tried(function):
    assert {_plain(each) for each in assignments(function)} == _STAMPS[function].keys()


@pytest.mark.parametrize(
    ("function", "stamp", "status", "statements", "holds"),
    [
        pytest.param(function, stamp, *case, id=f"{function}: {stamp[:40]} {number}")
        for function, stamps in _STAMPS.items()
        for stamp, cases in stamps.items()
        for number, case in enumerate(cases)
    ],
)
def test_without_its_stamp_the_row_says_something_else(function, stamp, status, statements, holds):
    task = task_in(status).pk if status else uuid7()
    assert observed(task, holds, *statements)
    [written] = [each for each in assignments(function) if _plain(each) == stamp]
    rewrite(function, written, "NULL;")
    assert not observed(task, holds, *statements)


# Conditions of the stamps, and what the statements of log, queue and plan write. Each: the function, a piece
# of it, what stands there instead, the status of a task, the statements, and what holds while the rule stands.
_PIECES = {
    "the mark of a named actor": (
        _WRITE,
        "starts_with(NEW.actor, chr(1)) AND NEW.revision",
        "NEW.revision",
        Status.PENDING,
        (_set("revision = revision + 1"),),
        f"task.actor = {_ROLE}",
    ),
    "the next revision": (
        _WRITE,
        "starts_with(NEW.actor, chr(1)) AND NEW.revision = OLD.revision + 1",
        "starts_with(NEW.actor, chr(1))",
        Status.PENDING,
        (_set("actor = 'mallory'"),),
        f"task.actor = {_ROLE}",
    ),
    "a revision that is NULL": (
        _WRITE,
        ") IS TRUE;",
        ");",
        Status.PENDING,
        (_set("status = 'approved', decided_by = 'carol', actor = 'carol', revision = NULL"),),
        f"task.decided_by = {_ROLE}",
    ),
    "who decided": (
        _WRITE,
        "NOT named OR",
        "",
        Status.PENDING,
        (_set("status = 'approved', decided_by = 'carol'"),),
        f"task.decided_by = {_ROLE}",
    ),
    "the first start": (
        _WRITE,
        "coalesce(OLD.started_at, moment)",
        "moment",
        Status.EXECUTING,
        (_set("status = 'approved'"), _set("status = 'executing'")),
        "task.started_at < task.status_since",
    ),
    "a clock that went back, executing": (
        _WRITE,
        "greatest(extract(epoch FROM moment - OLD.status_since) * 1000, 0)",
        "(extract(epoch FROM moment - OLD.status_since) * 1000)",
        Status.EXECUTING,
        (_HOUR_AGO.replace("- interval", "+ interval"), _set("status = 'approved'")),
        "task.executing_ms = 0",
    ),
    "stamps of the source in a replica session": (
        _WRITE,
        "current_setting('session_replication_role') <> 'replica'",
        "true",
        Status.APPROVED,
        (_REPLICA, _set("revision = 9, actor = 'x', status_since = '2001-01-01', paused_ms = 7")),
        "(task.revision, task.actor, task.paused_ms) = (9, 'x', 7) AND task.status_since = '2001-01-01'",
    ),
    "a log row of the source in a replica session": (
        _LOG,
        "current_setting('session_replication_role') <> 'replica'",
        "true",
        Status.APPROVED,
        (_REPLICA, _NOTE.replace("9, '7'", "1, '7'")),
        "log.db_role = 'x' AND log.at < '2002-01-01'",
    ),
    "no row of the log without a step": (
        "audit_task_log_v1",
        "WHERE moved.status IS DISTINCT FROM moved.status_was",
        "",
        Status.EXECUTING,
        (_set("summary = 'x'"),),
        "log.revision = 3",
    ),
    **{
        f"log row, {name}": ("audit_task_log_v1", old, new, Status.PENDING, (_set("status = 'approved'"),), holds)
        for name, old, new, holds in [
            ("at", "moved.status_since,", "pg_catalog.now(),", "log.at = task.status_since"),
            ("from_status", "'transition', moved.status_was", "'transition', 'paused'", "log.from_status = 'pending'"),
            ("revision", "moved.revision", "moved.revision + 1", "log.revision = task.revision"),
            ("db_role", "session_user", "'x'", "log.db_role = session_user"),
            ("xid", "pg_catalog.pg_current_xact_id()", "'7'", "log.xid = pg_current_xact_id()"),
            (
                "plan",
                "sha256(",
                "sha512(",
                "log.detail ->> 'plan_sha256' = encode(sha256(task.plan::text::bytea), 'hex')",
            ),
        ]
    },
    "log row, the reason of a pause": (
        "audit_task_queue_v1",
        "entry.reason",
        "'x'",
        Status.APPROVED,
        (_set("status = 'paused'"),),
        "log.detail ->> 'reason' = 'manual_pause'",
    ),
    "entry made": (
        "audit_task_queue_v1",
        "VALUES (moved.id, moved.work_plan, moved.actor, true, moved.priority, moved.actor)",
        "SELECT moved.id, moved.work_plan, moved.actor, true, moved.priority, moved.actor WHERE false",
        Status.APPROVED,
        (_set("status = 'paused'"),),
        "entry.held",
    ),
    "entry made with what remains": (
        "audit_task_queue_v1",
        "moved.work_plan",
        "NULL",
        Status.APPROVED,
        (_set("status = 'paused', work_plan = '[1]'"),),
        "entry.work_plan = '[1]'",
    ),
    "entry removed after a pause": (
        "audit_task_log_v1",
        "(moved.status, moved.status_was)",
        "(moved.status)",
        Status.PAUSED,
        (_set("status = 'approved'"),),
        "entry.id IS NULL",
    ),
    "entry removed": (
        "audit_task_queue_v1",
        "DELETE FROM audit_pause_queue WHERE task_id = moved.id RETURNING reason, event, resume_after",
        "SELECT '' AS reason, '' AS event, NULL::timestamptz AS resume_after",
        Status.PAUSED,
        (_set("status = 'approved'"),),
        "entry.id IS NULL",
    ),
    "what came of a wait": (
        "audit_task_queue_v1",
        "IF gone.event <> '' THEN",
        "IF false THEN",
        Status.EXECUTING,
        (
            _paused(event="'build-42'", reason="'awaiting_event'"),
            _set("status = 'approved'"),
        ),
        "(SELECT detail->>'event' FROM audit_executionlog WHERE task_id = task.id AND action = 'event') = 'build-42'",
    ),
    "who emitted an event": (
        _EVENT,
        "IF NEW.emitted_by = '' THEN",
        "IF true THEN",
        Status.PENDING,
        (_EMITTED.format(by="ci"),),
        "event.emitted_by = 'ci'",
    ),
    "the mark of a named actor is no part of the name of an entry": (
        _ENTRY,
        "octet_length(ltrim(NEW.actor, chr(1)))",
        "octet_length(NEW.actor)",
        Status.PAUSED,
        (_entry("actor = repeat('x', 4096), revision = revision + 1"),),
        "length(entry.actor) = 4096",
    ),
    "plan changed before its approval": (
        "audit_task_replan_v1",
        "BEGIN",
        "BEGIN RETURN NULL;",
        Status.PENDING,
        (_set("plan = '[]'"),),
        "log.action = 'change-plan'",
    ),
    **{
        f"entry changed, {action}": (
            "audit_entry_follow_v1",
            f"THEN '{action}'",
            "THEN NULL",
            Status.PAUSED,
            (_entry(assignment),),
            f"log.action = '{action}' AND log.actor = entry.actor AND log.kind = 'note'",
        )
        for action, assignment in [("defer", "held = false"), ("change-pause", "work_plan = '[1.50]'")]
    },
    **{
        f"entry changed, {assignment}": (
            "audit_entry_follow_v1",
            piece,
            spared,
            Status.PAUSED,
            (_entry("work_plan = '[1.5]'"), _entry(assignment)),
            f"log.action = '{action}'{also}",
        )
        for action, assignment, piece, spared, also in [
            ("defer", "resume_after = '2001-01-01'", "NEW.resume_after IS DISTINCT FROM OLD.resume_after", "false", ""),
            ("defer", "held = false", "NEW.held <> OLD.held", "false", ""),
            (
                "change-pause",
                "priority = 1",
                "NEW.priority <> OLD.priority",
                "false",
                " AND log.detail->'priority' = '1'",
            ),
            (
                "change-pause",
                "reason = 'insufficient_capacity'",
                "NEW.reason <> OLD.reason",
                "false",
                " AND log.detail->>'reason' = 'insufficient_capacity'",
            ),
            ("change-pause", "note = 'x'", "NEW.note <> OLD.note", "false", " AND log.detail->>'note' = 'x'"),
            (
                "change-pause",
                "work_plan = '[1.50]'",
                "NEW.work_plan::text IS DISTINCT FROM OLD.work_plan::text",
                "NEW.work_plan IS DISTINCT FROM OLD.work_plan",
                " AND log.detail->>'work_plan' = '[1.50]'",
            ),
        ]
    },
    "entry changed, hold": (
        "audit_entry_follow_v1",
        "THEN 'hold'",
        "THEN NULL",
        Status.PAUSED,
        (_entry("held = false"), _entry("held = true")),
        "log.action = 'hold'",
    ),
}


@pytest.mark.parametrize("piece", _PIECES)
def test_without_its_piece_the_row_says_something_else(piece):
    function, old, new, status, statements, holds = _PIECES[piece]
    task = task_in(status).pk
    assert observed(task, holds, *statements)
    rewrite(function, old, new)
    assert not observed(task, holds, *statements)


def test_were_the_stamps_of_an_event_always_on_a_replica_would_lose_those_of_its_source():
    task = task_in(Status.PENDING).pk
    seen = (task, "event.db_role = 'x' AND event.emitted_at < '2002-01-01'", _REPLICA, _EMITTED.format(by=""))
    assert observed(*seen)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_10_write")
    assert not observed(*seen)


def test_without_its_stamp_a_verification_is_dated_ahead():
    statement = (
        "INSERT INTO audit_ledger_verification (started_at, finished_at, verdict, size, unsealed, report)"
        " VALUES (now(), '9000-01-01', 'intact', 0, 0, '{}') RETURNING extract(year FROM finished_at)::int"
    )
    [[year]] = sql(statement)
    assert 2020 < year < 9000
    rewrite("audit_verification_stamp_v1", "BEGIN", "BEGIN RETURN NEW;")
    assert sql(statement) == [(9000,)]
