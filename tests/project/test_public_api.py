"""The names that users rely on. A name that leaves this list breaks somebody's code."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

import pytest

from audit.models import PauseQueueEntry, Task

PUBLIC = {
    "audit": ["aemit_event", "emit_event", "handler", "record"],
    "audit.checks": ["MINIMUM_SERVER", "check_database", "check_deployment", "check_settings"],
    "audit.context": ["actor", "get_actor"],
    "audit.decisions": ["Decision", "MAX_REASON", "Seen", "carry_out", "decide"],
    "audit.events": ["AwaitedEvent", "MAX_PAYLOAD_BYTES", "aemit_event", "emit_event"],
    "audit.exceptions": [
        "AppendOnly",
        "ApprovalExpired",
        "AuditError",
        "ConflictingTask",
        "IllegalTransition",
        "InvalidFilter",
        "InvalidValue",
        "LeaseLost",
        "NotDurable",
        "OwnRequest",
        "StaleTask",
        "TaskFrozen",
    ],
    "audit.ids": ["uuid7", "uuid7_time", "uuid7s"],
    "audit.inspection": ["Flaw", "inspect", "keeps_audit"],
    "audit.ledger.seal": ["BATCH", "Batch", "Busy", "CannotSeal", "RefusesToSeal", "WAIT_S", "begin_epoch", "seal"],
    "audit.ledger.verify": ["CannotVerify", "keep", "keep_unchecked", "verify"],
    "audit.models": [
        "Agent",
        "Event",
        "ExecutionLog",
        "LedgerCheckpoint",
        "LedgerEpoch",
        "LedgerHead",
        "LedgerLeaf",
        "LedgerTile",
        "LedgerVerification",
        "PauseQueueEntry",
        "ResourceMetric",
        "Task",
        "Verdict",
    ],
    "audit.agents.presence": ["Presence", "PresenceState"],
    "audit.agents.readings": ["Reader", "Reading", "read"],
    "audit.pausing": ["CapacityVerdict", "PauseManager", "capacity_here", "check_capacity", "gate"],
    "audit.worker": ["Handler", "Run", "Summary", "Worker", "handler"],
    "audit.testing": ["GuardedFlushMixin", "Refusal", "flushable", "refused"],
    "audit.testing.runner": ["AuditDiscoverRunner", "GuardedFlushRunnerMixin"],
}

TASK_VERBS = {
    "approve": ["actor", "using"],
    "reject": ["actor", "reason", "using"],
    "request_cancel": ["actor", "reason", "using"],
    "heartbeat": ["actor", "lease", "using"],
    "touch": ["actor", "services", "using"],
    "log": ["action", "actor", "detail", "duration_ms", "output_summary", "step_number", "using"],
    "pause": ["actor", "event", "held", "priority", "reason", "resume_after", "using", "work_plan"],
    "complete": ["actor", "outcome", "resources", "suggestions", "using"],
    "fail": ["actor", "error", "outcome", "resources", "suggestions", "using"],
    "release": ["actor", "reason", "using"],
    "retry": ["actor", "delay", "error", "outcome", "using"],
    "checkpoint": ["actor", "using", "work_plan"],
    "awaited_event": ["using"],
    "note": ["actor", "using"],
    "suggest": ["actor", "reason", "suggestion", "using"],
}
ENTRY_VERBS = {
    "resume": ["actor", "using"],
    "cancel": ["actor", "reason", "using"],
    "defer": ["actor", "until", "using"],
    "hold": ["actor", "using"],
    "release": ["actor", "using"],
}
TASK_QUERIES = [
    "by",
    "failed",
    "finished",
    "finished_since",
    "finished_until",
    "live",
    "since",
    "touching",
    "touching_any",
    "until",
    "with_action",
]
TASK_MANAGER_VERBS = ["request", "claim", "recover_expired", "bulk_request", "bulk_record"]


@pytest.mark.parametrize("module", PUBLIC)
def test_names(module):
    imported = import_module(module)
    assert sorted(imported.__all__) == PUBLIC[module]
    for name in PUBLIC[module]:
        assert getattr(imported, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = imported.no_such_name


def _takes(verb: Callable[..., object], names: list[str]) -> None:
    parameters = inspect.signature(verb).parameters
    assert set(names) <= set(parameters), verb
    assert verb.__doc__


@pytest.mark.parametrize(
    ("model", "verb", "names"),
    [(Task, verb, names) for verb, names in TASK_VERBS.items()]
    + [(PauseQueueEntry, verb, names) for verb, names in ENTRY_VERBS.items()],
)
def test_verbs(model, verb, names):
    _takes(getattr(model, verb), names)
    twin = getattr(model, f"a{verb}")
    assert inspect.iscoroutinefunction(twin)


def test_managers():
    for name in [*TASK_QUERIES, *TASK_MANAGER_VERBS]:
        assert callable(getattr(Task.objects, name))
        assert callable(getattr(Task.objects.all(), name))
    for name in ("due", "claim"):
        assert callable(getattr(PauseQueueEntry.objects, name))
        assert callable(getattr(PauseQueueEntry.objects.all(), name))


@pytest.mark.parametrize(
    ("manager", "verb"), [(Task.objects, verb) for verb in TASK_MANAGER_VERBS] + [(PauseQueueEntry.objects, "claim")]
)
def test_managers_have_twins_for_async_code(manager, verb):
    assert inspect.iscoroutinefunction(getattr(manager.all(), f"a{verb}"))
    assert callable(getattr(manager, f"a{verb}"))


def test_a_command_loads_pydantic_only_to_read_files():
    code = (
        "import django, sys; django.setup(); import audit.admin.pages; from audit.interchange import json_lines;"
        " assert 'pydantic' not in sys.modules;"
        " from audit.interchange import TaskRecord; assert 'pydantic' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
