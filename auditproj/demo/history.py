"""A month of believable finished work, made up from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from audit.ids import uuid7
from audit.models import Task

__all__ = ["fill"]

_SERVICES = (
    "kuma", "auth", "billing", "gateway", "search", "payments", "dns", "mail", "postgres", "redis",
    "grafana", "vault", "ci", "wiki", "media", "notify", "backup", "edge",
)  # fmt: skip
_PEOPLE = ("alice", "bob", "chidi", "dana", "emre", "farah")
_AGENTS = tuple(f"agent-{number:02}" for number in range(1, 13))
_WORKERS = ("orch-1", "orch-2", "orch-3")

# action: (weight, what is asked, typical seconds, steps)
_WORK: dict[str, tuple[int, str, float, tuple[str, ...]]] = {
    "deploy": (
        22,
        "Deploy {service} {version}",
        95,
        ("pull image", "run migrations", "switch traffic", "watch health"),
    ),
    "restart": (18, "Restart {service}", 14, ("drain connections", "restart unit", "watch health")),
    "rotate-key": (9, "Rotate the {service} key", 22, ("create key", "distribute key", "revoke old key")),
    "backup": (14, "Back up {service}", 240, ("snapshot", "upload", "verify checksum")),
    "scale": (8, "Scale {service} to {count} replicas", 30, ("plan placement", "start replicas")),
    "renew-certificate": (6, "Renew the certificate of {service}", 18, ("order", "answer challenge", "install")),
    "purge-cache": (7, "Purge the cache of {service}", 4, ("purge",)),
    "patch": (7, "Patch {service} against {advisory}", 130, ("fetch patch", "apply", "run checks")),
    "investigate": (6, "Investigate latency of {service}", 400, ("collect traces", "compare", "write summary")),
    "restore-test": (3, "Restore last night's backup of {service}", 600, ("fetch", "restore", "compare counts")),
}
_FAILURES = (
    (5, "MemoryLimitExceeded", "limit 512Mi reached while handling {service}", True),
    (3, "InsufficientResources", "no node with 8 GiB of GPU memory free for {service}", True),
    (6, "TimeoutError", "{service} did not become healthy within 120 s", False),
    (4, "ConnectionRefusedError", "{service}:443 refused the connection", False),
    (4, "CalledProcessError", "playbook {service}.yml returned exit status 2", False),
    (2, "PermissionError", "token may not write to {service}", False),
)


def fill(count: int, now: datetime, progress: Callable[[int], None], *, batch: int = 2000) -> None:
    """Store `count` finished tasks of the 30 days before `now`, reporting after each batch how many are stored.

    Raises:
        audit.exceptions.InvalidValue: never, unless this module is wrong.
    """
    chance = random.Random("a month of work")  # noqa: S311 - a story, not a secret
    moments = sorted(_moments(chance, count, now))
    stored = 0
    for start in range(0, count, batch):
        Task.objects.bulk_record([_task(chance, moment, now) for moment in moments[start : start + batch]])
        stored = min(start + batch, count)
        progress(stored)


def _moments(chance: random.Random, count: int, now: datetime) -> Iterator[datetime]:
    """Busy on working days and in the afternoon, with some nightly jobs."""
    made = 0
    while made < count:
        moment = now - timedelta(days=30) * chance.random()
        if moment > now - timedelta(minutes=12):
            continue
        hour = moment.hour + moment.minute / 60
        load = 0.25 + 0.75 * math.exp(-(((hour - 14.5) / 4.2) ** 2))
        load *= 0.45 if moment.weekday() >= 5 else 1
        if 2 <= hour < 3:
            load += 0.35
        if chance.random() < load:
            made += 1
            yield moment


def _task(chance: random.Random, created: datetime, now: datetime) -> dict[str, Any]:
    action = chance.choices(tuple(_WORK), [work[0] for work in _WORK.values()])[0]
    _, summary, seconds, steps = _WORK[action]
    service = _SERVICES[min(int(chance.paretovariate(0.9)) - 1, len(_SERVICES) - 1)]
    others = chance.sample(_SERVICES, chance.choice((0, 0, 0, 1, 1, 2, 4)))
    words = {
        "service": service,
        "version": f"{chance.randint(1, 3)}.{chance.randint(0, 20)}.{chance.randint(0, 9)}",
        "count": chance.randint(2, 9),
        "advisory": f"CVE-2026-{chance.randint(1000, 49999)}",
    }
    requester = chance.choice(_AGENTS if chance.random() < 0.7 else _PEOPLE)
    task: dict[str, Any] = {
        "action": action,
        "summary": summary.format_map(words),
        "services": list(dict.fromkeys((service, *others))),
        "priority": chance.choices((1, 2, 3, 4, 5), (4, 14, 60, 14, 8))[0],
        "plan": {"steps": list(steps), "target": service},
        "requested_by": requester,
        "correlation_id": f"req-{chance.getrandbits(48):012x}",
        "created_at": created,
        "id": uuid7(created, f"demo {created.isoformat()} {chance.random()}"),
    }
    decided = created + timedelta(seconds=1 + chance.expovariate(1 / (5 if requester in _AGENTS else 240)))
    approver = "policy:low-risk" if chance.random() < 0.6 else chance.choice(_PEOPLE)
    task |= {"decided_at": decided, "decided_by": approver}
    if chance.random() < 0.03:
        reason = chance.choice(("outside the change window", "a duplicate of an earlier request", "needs a plan first"))
        return task | {
            "status": "rejected",
            "finished_at": decided,
            "actor": approver,
            "outcome": {"success": False, "error_type": "Rejected", "output_summary": reason},
        }
    started = decided + timedelta(seconds=chance.expovariate(1 / 20))
    wall = max(0.05, chance.lognormvariate(math.log(seconds), 0.6))
    finished = min(started + timedelta(seconds=wall), now)
    worker = chance.choice(_WORKERS)
    peak = int(chance.lognormvariate(math.log(180e6), 0.7))
    task |= {
        "started_at": started,
        "finished_at": finished,
        "claimed_by": worker,
        "attempt": 1,
        "actor": worker,
        "estimated_resources": {"wall_s": seconds},
        "resources_used": {
            "wall_s": round(wall, 3),
            "cpu_s": round(wall * chance.uniform(0.05, 0.7), 3),
            "peak_rss_bytes": peak,
        },
    }
    done = [{"name": step, "ms": int(1000 * wall / len(steps))} for step in steps]
    if chance.random() < (0.55 if _incident(created, now) else 0.07):
        weights = [failure[0] for failure in _FAILURES]
        _, error, message, resource = chance.choices(_FAILURES, weights)[0]
        outcome = {
            "success": False,
            "error_type": error,
            "output_summary": message.format_map(words),
            "steps": done[:-1],
            "retryable": not resource,
        }
        suggestion = "Give the worker 1 GiB" if resource else f"Look at the logs of {service} before the next try"
        return task | {
            "status": "failed",
            "outcome": outcome,
            "suggestions": [
                {
                    "suggestion": suggestion,
                    "reason": message.format_map(words),
                    "created_at": finished.isoformat(),
                }
            ],
        }
    outcome = {"success": True, "output_summary": f"{len(done)} steps done", "steps": done}
    return task | {"status": "completed", "outcome": outcome}


def _incident(created: datetime, now: datetime) -> bool:
    """Two bad hours: last night, and one eleven days ago."""
    age = now - created
    return timedelta(hours=9) < age < timedelta(hours=10) or timedelta(days=11) < age < timedelta(days=11, hours=2)
