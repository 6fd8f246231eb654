"""Task functions; imported only where TASKS names the backend, so that `@task` makes its tasks."""

import asyncio
import logging
import os
import time

from audit.contrib.django_tasks import current_run, policy
from audit.contrib.django_tasks import framework as _framework

if _framework.home() == "django.tasks":
    from django.tasks import task
    from django.tasks.signals import task_finished, task_started
else:
    from django_tasks import task
    from django_tasks.signals import task_finished, task_started


class Declined(Exception):
    """What a task raises."""


@task
def add(a, b=1):
    return a + b


@task(takes_context=True)
def about(context, wanted):
    result = context.task_result
    return {
        "attempt": context.attempt,
        "id": result.id,
        "status": str(result.status),
        "workers": result.worker_ids,
        "wanted": wanted,
        "process": os.getpid(),
    }


@task
async def add_async(a, b):
    await asyncio.sleep(0)
    return {"sum": a + b, "process": os.getpid()}


@task
async def decline_async():
    raise Declined("not today")


@task
def decline(reason):
    raise Declined(reason)


@task
def leave(code):
    raise SystemExit(code)


@task
def die():
    os._exit(3)


@task
def unfit(what):
    return {"set": {1}, "object": object(), "nan": float("nan"), "nul": "a\0b"}[what]


@task
@policy(requires_approval=True, services=["billing"])
def refund(order):
    return f"refunded {order}"


@task(takes_context=True)
@policy(max_attempts=3, backoff=0.01, max_backoff=0.02)
def at_last(context, attempt):
    if context.attempt < attempt:
        raise Declined(f"attempt {context.attempt}")
    return context.task_result.worker_ids


@task(takes_context=True)
@policy(max_attempts=2, backoff=0.01)
async def at_last_async(context, attempt):
    if context.attempt < attempt:
        raise Declined(f"attempt {context.attempt}")
    return context.attempt


@task
@policy(timeout=0.5)
def hang():
    time.sleep(3600)


@task
def nest():
    run = current_run()
    run.log("nests", detail={"key": run.idempotency_key})
    return add.enqueue(2, b=3).id


@task
def steps_aside():
    current_run().release()


@task
async def steps_aside_async():
    current_run().release()


@task(takes_context=True)
def survive(context):
    if context.attempt == 1:
        time.sleep(3600)
    return context.task_result.worker_ids


def plain():
    """No task."""


def other_plain():
    """Another one."""


def _heard(name):
    def receiver(sender, task_result, **kwargs):
        said = [task_result.id, sender.__name__, str(task_result.status), len(task_result.errors)]
        logging.getLogger("tasking").warning("heard %s %s", name, " ".join(map(str, said)))

    return receiver


started, finished = _heard("started"), _heard("finished")
task_started.connect(started)
task_finished.connect(finished)
