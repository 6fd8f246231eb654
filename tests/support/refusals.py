"""What the rules refuse: each refusal with the piece of a function that makes it, and an attack that meets it."""

from audit.models import Task
from audit.status import Status
from tests.support.attacks import changed
from tests.support.factories import CHECK

__all__ = ["FORGED", "KEPT", "LOG", "REFUSALS", "WRITE", "line", "task"]

_NOTE = "INSERT INTO public.audit_executionlog ({columns}) VALUES ({values})"


def task(assignment):
    return f"UPDATE public.audit_task SET {assignment} WHERE id = {{id}}"


def entry(assignment):
    return f"UPDATE public.audit_pause_queue SET {assignment} WHERE task_id = {{id}}"


def paused(column, value):
    """A task that pauses for an event, with a value of its entry."""
    row = {"task_id": "id", "reason": "'awaiting_event'", column: value}
    return (
        "WITH paused AS (UPDATE public.audit_task SET status = 'paused' WHERE id = {id} RETURNING id)"
        f" INSERT INTO public.audit_pause_queue ({', '.join(row)}) SELECT {', '.join(row.values())} FROM paused"
    )


def line(**values):
    """A row of the log with every column that a replica session must bring."""
    row = {"task_id": "{id}", "kind": "'note'", "at": "now()", "db_role": "'x'", "xid": "'1'", "row_version": "1"}
    row |= values
    return _NOTE.format(columns=", ".join(row), values=", ".join(row.values()))


_VERIFIED = (
    "INSERT INTO audit_ledger_verification (started_at, verdict, size, unsealed, report)"
    " VALUES (now(), 'intact', 0, 0, '{}')"
)
FORGED = {"kind": "'transition'", "from_status": "'executing'", "to_status": "'completed'", "revision": "99"}
WRITE, LOG, _ENTRY, _FOLLOW = (
    "audit_task_write_v1",
    "audit_log_write_v1",
    "audit_entry_write_v1",
    "audit_entry_follow_v1",
)
_NEVER = ("BEGIN", "BEGIN IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW;")
KEPT = {"id", "created_at", "recorded_at", "requested_by", "origin"}

_EMITTED = "INSERT INTO audit_event (name) VALUES ('build-42') ON CONFLICT DO NOTHING"
_IN_TIME = task("approve_before = now() - interval '1 second'") + "; "
# A task without an entry: it needs one of its own to be paused.
_UNPAUSED = "'01900000-0000-7000-8000-000000000001'"
_MADE = f"INSERT INTO audit_task (id, action) VALUES ({_UNPAUSED}, 'x'); "
_OVERDUE = entry("reason = 'awaiting_approval', resume_after = now() - interval '1 second'") + "; "

# Each: the function, the piece of it that is the rule, what stands there instead, the status of a task, the attack, and
# the answer to it where it is not that of a restriction.
REFUSALS = {
    "delete, live": ("audit_task_delete_v1", *_NEVER, Status.PENDING, "DELETE FROM audit_task WHERE id = {id}"),
    "delete, finished": ("audit_task_delete_v1", *_NEVER, Status.COMPLETED, "DELETE FROM audit_task WHERE id = {id}"),
    "frozen": (
        WRITE,
        "IF OLD.status IN ('completed', 'failed', 'rejected') THEN",
        "IF false THEN",
        Status.COMPLETED,
        task("summary = 'forged'"),
    ),
    **{
        f"step from {before} to {after}": (
            WRITE,
            "IF NEW.status <> OLD.status AND NOT",
            "IF false AND NOT",
            before,
            task(f"status = '{after}'"),
        )
        for before, after in [("pending", "executing"), ("executing", "rejected"), ("paused", "executing")]
    },
    **{
        f"{column} never changes": (
            WRITE,
            f"NEW.{column}::text IS DISTINCT FROM OLD.{column}::text"
            if column == "origin"
            else f"NEW.{column} <> OLD.{column}",
            "false",
            Status.PENDING,
            task(f"{column} = {changed(Task._meta.get_field(column))}"),
        )
        for column in sorted(KEPT)
    },
    "lowered revision": (
        WRITE,
        "IF NEW.revision < OLD.revision THEN",
        "IF false THEN",
        Status.EXECUTING,
        task("revision = revision - 1"),
    ),
    "no lease is given to who has one": (
        WRITE,
        "AND OLD.status IS DISTINCT FROM 'executing'",
        "",
        Status.EXECUTING,
        task("claim_token = NULL"),
        CHECK,
    ),
    "approved too late": (
        WRITE,
        "IF stamps AND OLD.status = 'pending'",
        "IF false AND OLD.status = 'pending'",
        Status.PENDING,
        _IN_TIME + task("status = 'approved'"),
    ),
    "deadline moved when it has passed": (
        WRITE,
        "OR (stamps AND OLD.approve_before <= statement_timestamp())",
        "",
        Status.PENDING,
        _IN_TIME + task("approve_before = NULL"),
    ),
    "deadline moved after the decision": (
        WRITE,
        "OLD.status <> 'pending' OR",
        "",
        Status.EXECUTING,
        task("approve_before = now() + interval '1 hour'"),
    ),
    "resumed too late": (
        "audit_task_queue_v1",
        "IF gone.reason = 'awaiting_approval'",
        "IF false AND gone.reason = 'awaiting_approval'",
        Status.PAUSED,
        _OVERDUE + task("status = 'approved'"),
    ),
    **{
        f"deadline of a pause, {assignment}": (
            _ENTRY,
            "IF OLD.reason = 'awaiting_approval'",
            "IF false AND OLD.reason = 'awaiting_approval'",
            Status.PAUSED,
            _OVERDUE + entry(assignment),
        )
        for assignment in ("resume_after = now() + interval '1 hour'", "resume_after = NULL", "reason = 'manual_pause'")
    },
    "event, changed": ("audit_event_guard_v1", *_NEVER, None, f"{_EMITTED}; UPDATE audit_event SET payload = '2'"),
    "event, removed": ("audit_event_guard_v1", *_NEVER, None, f"{_EMITTED}; DELETE FROM audit_event"),
    "plan": ("audit_task_plan_v1", "BEGIN", "BEGIN RETURN NEW;", Status.APPROVED, task("plan = '[]'")),
    "plan, as text": (
        "audit_task_plan_v1",
        "NEW.plan::text IS DISTINCT FROM OLD.plan::text",
        "NEW.plan IS DISTINCT FROM OLD.plan",
        Status.EXECUTING,
        task("""plan = '{"steps": ["pull", "run"], "ratio": 12.50}'"""),
    ),
    "truncate": ("audit_truncate_guard_v1", "BEGIN", "BEGIN RETURN NULL;", None, "TRUNCATE audit_task CASCADE"),
    "log, changed": ("audit_log_guard_v1", *_NEVER, Status.PENDING, "UPDATE audit_executionlog SET actor = 'mallory'"),
    "log, removed": ("audit_log_guard_v1", *_NEVER, Status.PENDING, "DELETE FROM audit_executionlog"),
    "forged transition": (LOG, "IF NEW.kind = 'transition' THEN", "IF false THEN", Status.EXECUTING, line(**FORGED)),
    "log of no task": (
        LOG,
        "IF NOT EXISTS",
        "IF false AND NOT EXISTS",
        None,
        line(task_id="'01900000-0000-7000-8000-000000000000'"),
        "23503",
    ),
    "entry without a pause": (
        _FOLLOW,
        "IF TG_OP = 'INSERT' AND",
        "IF false AND",
        Status.APPROVED,
        "INSERT INTO audit_pause_queue (task_id) VALUES ({id})",
    ),
    "pause without an entry": (
        _FOLLOW,
        "ELSIF TG_OP = 'DELETE' AND",
        "ELSIF false AND",
        Status.PAUSED,
        "DELETE FROM audit_pause_queue WHERE task_id = {id}",
    ),
    **{
        f"entry's {column} never changes": (
            *(_ENTRY, piece, "false", Status.PAUSED),
            (_MADE if column == "task_id" else "") + entry(assignment),
        )
        for column, piece, assignment in [
            ("id", "NEW.id <> OLD.id", "id = id + 1"),
            ("task_id", "NEW.task_id <> OLD.task_id", f"task_id = {_UNPAUSED}"),
            ("paused_at", "NEW.paused_at <> OLD.paused_at", "paused_at = paused_at - interval '1 day'"),
            ("event", "NEW.event <> OLD.event", "reason = 'awaiting_event', event = 'x'"),
            ("paused_by", "NEW.paused_by <> OLD.paused_by", "paused_by = 'mallory'"),
            ("revision", "NEW.revision < OLD.revision", "revision = revision - 1"),
        ]
    },
    **{
        f"entry's {column} is bounded{where}": (_ENTRY, piece, spared, status, f"{session}{attack}", CHECK)
        for column, piece, spared, status, attack in [
            ("note", "octet_length(NEW.note) > 65536", "false", Status.PAUSED, entry("note = repeat('x', 65537)")),
            (
                "event",
                "octet_length(NEW.event) > 800",
                "false",
                Status.EXECUTING,
                paused("event", "repeat('x', 801)"),
            ),
            (
                "paused_by",
                "octet_length(NEW.paused_by)",
                "0",
                Status.EXECUTING,
                paused("paused_by", "repeat('x', 4097)"),
            ),
            (
                "claimed_by",
                "octet_length(NEW.claimed_by)",
                "0",
                Status.PAUSED,
                entry("claimed_by = repeat('x', 4097)"),
            ),
            (
                "actor",
                "octet_length(ltrim(NEW.actor, chr(1)))",
                "0",
                Status.PAUSED,
                entry("actor = repeat('x', 4097), revision = revision + 1"),
            ),
        ]
        for where, session in [
            ("", ""),
            (", also in a replica session", "SET LOCAL session_replication_role = replica; "),
        ]
    },
    **{
        f"ledger, {verb}": ("audit_ledger_guard_v1", *_NEVER, None, f"{_VERIFIED}; {statement}")
        for verb, statement in [
            ("changed", "UPDATE audit_ledger_verification SET size = 1"),
            ("removed", "DELETE FROM audit_ledger_verification"),
        ]
    },
}
