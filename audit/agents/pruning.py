"""Removes old readings, and agents that have been gone for long, a bounded number at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db import router

from audit import conf
from audit.models import Agent
from audit.statements.rows import run
from audit.values import validation

__all__ = ["Pruned", "prune", "prune_agents", "prune_readings"]

_AT_ONCE = 200

_READINGS = """
WITH pruned AS (
    DELETE FROM audit_resource_metric
    WHERE id = ANY (ARRAY(
        SELECT old.id FROM audit_resource_metric AS old
        WHERE old.at < statement_timestamp() - %s ORDER BY old.at LIMIT %s FOR UPDATE SKIP LOCKED
    ))
    RETURNING id
)
SELECT count(*) FROM pruned
"""
# Readings first: an agent goes when none of its own is left.
_AGENTS = """
WITH pruned AS (
    DELETE FROM audit_agent
    WHERE id = ANY (ARRAY(
        SELECT old.id FROM audit_agent AS old
        WHERE old.drain_requested_at IS NULL AND (
                old.heartbeat_at < statement_timestamp() - %s
                -- A name that the process made up comes back with no other process.
                OR old.stopped_at IS NOT NULL AND old.name = old.host || ':' || old.pid
            )
            AND NOT EXISTS (SELECT FROM audit_resource_metric AS metric WHERE metric.agent_id = old.id)
        ORDER BY old.id LIMIT %s FOR UPDATE SKIP LOCKED
    ))
    RETURNING id
)
SELECT count(*) FROM pruned
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows a pass removed."""

    readings: int
    agents: int


def prune(using: str | None = None, *, limit: int = _AT_ONCE) -> Pruned:
    """Make one pass; call it again while a number equals `limit`. Several processes at once share the work.

    Args:
        using: the alias to write through; the router's choice when left out.
        limit: the most rows of each table.

    Raises:
        InvalidValue: a limit that is not positive.
    """
    validation.whole("limit", limit)
    alias = using or router.db_for_write(Agent)
    return Pruned(readings=prune_readings(alias, limit), agents=prune_agents(alias, limit))


def prune_readings(using: str, limit: int = _AT_ONCE) -> int:
    """Remove readings older than `AUDIT["METRICS_KEEP_SECONDS"]`, the oldest first; return how many."""
    return _pruned(using, _READINGS, conf.settings().METRICS_KEEP_SECONDS, limit)


def prune_agents(using: str, limit: int = _AT_ONCE) -> int:
    """Remove agents without readings that were silent for `AUDIT["AGENTS_KEEP_SECONDS"]`; return how many.

    One that stopped in good order and is called `host:pid`, as workers without a name are, goes with its last reading.
    """
    return _pruned(using, _AGENTS, conf.settings().AGENTS_KEEP_SECONDS, limit)


def _pruned(using: str, sql: str, seconds: int, limit: int) -> int:
    [(count,)] = run(using, sql, [timedelta(seconds=seconds), limit])
    return int(count)
