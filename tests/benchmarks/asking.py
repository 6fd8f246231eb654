"""What the subjects of `queue` share: how jobs are asked for, one by one, and what a worker of theirs can do."""

from __future__ import annotations

import random
import time
from typing import Any, ClassVar

import psycopg

from tests.benchmarks.contenders import AsyncContender, Contender
from tests.benchmarks.moments import note

__all__ = ["Asks", "AsyncAsks", "Queue"]

_PAUSES = (0.05, 0.25)


class Queue(Contender):
    """What a subject can do besides being claimed from."""

    ways: ClassVar[tuple[str, ...]]
    """How its workers may hear of work: `notify`, `poll`."""
    history: ClassVar[bool] = False
    """Whether it keeps a trail of its rows."""

    def ask(self, count: int) -> Any:
        """Ask for jobs, one after the other."""
        raise NotImplementedError

    def ask_slowly(self, count: int) -> Any:
        """Ask for jobs, with pauses in which the workers are idle again."""
        raise NotImplementedError

    @staticmethod
    def done(connection: psycopg.Connection[Any]) -> int:
        """Count the jobs that have ended well."""
        raise NotImplementedError

    def work(self, name: str, way: str) -> None:
        """Be a worker until killed."""
        raise NotImplementedError


class Asks(Queue):
    """One whose API is synchronous."""

    number = 0

    def one(self, number: int) -> None:
        """Ask for one job, and note when the call began that makes it ready."""
        raise NotImplementedError

    def ask(self, count: int) -> int:
        for _ in range(count):
            self.number += 1
            self.one(self.number)
        return count

    def ask_slowly(self, count: int) -> int:
        for _ in range(count):
            self.ask(1)
            time.sleep(random.uniform(*_PAUSES))
        return count


class AsyncAsks(AsyncContender, Queue):
    """One whose API is asynchronous."""

    number = 0

    async def one(self, number: int) -> None:
        """Ask for one job, and note when the call began."""
        raise NotImplementedError

    async def ask(self, count: int) -> int:
        for _ in range(count):
            self.number += 1
            note("asked", self.number)
            await self.one(self.number)
        return count

    async def ask_slowly(self, count: int) -> int:
        import asyncio

        for _ in range(count):
            await self.ask(1)
            await asyncio.sleep(random.uniform(*_PAUSES))
        return count
