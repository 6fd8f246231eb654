"""The filter of tasks: a value that is read, written and applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db.models import F, Func, Q, TextField, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, In

from audit.exceptions import InvalidFilter
from audit.models.querysets.search_text import ERROR_TYPE, fails_with, has_word
from audit.reading.filters.actors import matching
from audit.reading.filters.build import Build, Problems, quoted
from audit.reading.filters.values import (
    BY_NAME,
    KEYS,
    LONGEST_SPAN,
    MOST_VALUES,
    ROOTS,
    When,
    document,
    search_word,
    when_text,
)
from audit.reading.seal_state import named_by_verification
from audit.status import FailureClass, Status
from audit.values import validation
from audit.values.failures import resource_errors

if TYPE_CHECKING:
    from audit.models.querysets.task import TaskQuerySet

__all__ = ["DEFAULT_WINDOW", "TaskFilter"]

DEFAULT_WINDOW = timedelta(days=30)
"""How far back commands look for what no index finds, unless a range is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks are meant; every condition that is given must hold.

    Equal filters have equal `to_query()` and `to_text()`, and both read back as the filter they were made of. A time
    is an aware datetime, or a timedelta that counts back from the moment of the question, so that "the last hour"
    stays the last hour in a bookmark.

    Raises:
        InvalidFilter: a value means nothing; the message names it and what would do.
    """

    statuses: tuple[str, ...] = ()
    """Any of these."""
    services: tuple[str, ...] = ()
    """Touched all of these."""
    any_services: tuple[str, ...] = ()
    """Touched at least one of these."""
    actions: tuple[str, ...] = ()
    """Any of these kinds of work."""
    actors: tuple[str, ...] = ()
    """Requested, decided or last changed by any of these; a `*` stands for any characters, see `matching`."""
    since: When | None = None
    """Created at or after."""
    until: When | None = None
    """Created before."""
    all_time: bool = False
    """Asked for explicitly (`since=all`): no default window is to be added."""
    finished_since: When | None = None
    """Finished at or after."""
    finished_until: When | None = None
    """Finished before."""
    correlation_ids: tuple[str, ...] = ()
    """Any of these."""
    ids: tuple[str, ...] = ()
    """Ids that begin with any of these: lower-case hexadecimal digits without dashes, at most 32."""
    parents: tuple[UUID, ...] = ()
    """Belongs to or retries any of these tasks."""
    failures: tuple[str, ...] = ()
    """Failed for any of these reasons; see `audit.status.FailureClass`."""
    seals: tuple[str, ...] = ()
    """`failed`: the newest stored verification of the ledger names the task or a row of its log."""
    error_types: tuple[str, ...] = ()
    """Any of these in `outcome.error_type`."""
    documents: tuple[tuple[str, str], ...] = ()
    """A path into a JSON column, such as `outcome.exit_code`, and the text of the value that stands there."""
    words: tuple[str, ...] = ()
    """Each begins a word, in whatever case, of the action, the summary, the correlation id or the outcome's
    `output_summary`; see `audit.models.querysets.search_text.WORDS`."""

    def __post_init__(self) -> None:
        for key in KEYS:
            given = getattr(self, key.field)
            if key.many:
                if isinstance(given, str):
                    raise InvalidFilter(key.field, given, "must be a tuple of values")
                read = tuple(dict.fromkeys(value for each in given for value in key.read(key.field, each)))
                if len(read) > MOST_VALUES:
                    raise InvalidFilter(key.field, len(read), f"has too many values; at most {MOST_VALUES} are taken")
                object.__setattr__(self, key.field, read)
            elif given is not None:
                (read_one,) = key.read(key.field, given)
                object.__setattr__(self, key.field, read_one)
        documents = tuple(sorted({document(path, value) for path, value in self.documents}))
        object.__setattr__(self, "documents", documents)
        object.__setattr__(self, "words", tuple(dict.fromkeys(search_word("words", each) for each in self.words)))
        if self.all_time and self.since is not None:
            raise InvalidFilter("since", when_text(self.since), "is given beside all time; choose one of them")

    @classmethod
    def from_query(cls, data: Mapping[str, Any], problems: Problems | None = None) -> TaskFilter:
        """Read URL parameters: a key repeated means several values; `q` holds search text as in `from_text`.

        Args:
            data: a `QueryDict`, or a mapping of keys to lists of strings. Keys that are no filter are left alone: they
                are the page's own.
            problems: a list that takes the errors, for a page that ignores what means nothing and says so.

        Raises:
            InvalidFilter: a value means nothing, and there is no list to note that in.
        """
        build = Build(problems)
        lists = data.lists() if hasattr(data, "lists") else data.items()
        given = {key: [values] if isinstance(values, str) else list(values) for key, values in lists}
        # What was typed last comes first: of two values for one time, the first is taken.
        for text in given.get("q", ()):
            build.text(text)
        for key, values in given.items():
            if key in BY_NAME or (key.split(".")[0] in ROOTS and "." in key):
                for value in values:
                    # A form of a range leaves an end open by leaving its field empty.
                    if value or key not in {"since", "until"}:
                        build.add(key, value)
        return cls(**build.done())

    @classmethod
    def from_text(cls, text: str, problems: Problems | None = None) -> TaskFilter:
        """Read search text: `key:value` tokens, ids or their beginnings, and words, in any order.

        Keys are `status` (also `live` and `finished`), `service`, `any_service`, `action`, `actor`, `since`, `until`,
        `finished_since`, `finished_until`, `correlation_id`, `id`, `parent`, `failure` (`resource` or `application`),
        `seal` (`failed`), `error_type`, and paths into the JSON columns such as `outcome.exit_code`. A value with
        spaces stands in double quotes; a word in quotes is never a token.

        Args:
            text: what somebody typed.
            problems: as for `from_query`.

        Raises:
            InvalidFilter: a value means nothing, and there is no list to note that in.
        """
        build = Build(problems)
        build.text(text)
        return cls(**build.done())

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> TaskFilter:
        """Read the options of a command, parsed or given by `call_command`; see `audit.reading.filters.add_arguments`.

        Raises:
            InvalidFilter: a value means nothing.
        """
        build = Build(None)
        for key in KEYS:
            given = options.get(key.name)
            for value in [given] if isinstance(given, str | datetime | timedelta | UUID) else given or ():
                build.add(key.name, value)
        build.text(options.get("search") or "")
        return cls(**build.done())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield each condition as its URL key and its value as text; words come under `q`, one by one."""
        if self.all_time:
            yield "since", "all"
        for key in KEYS:
            given = getattr(self, key.field)
            for value in given if key.many else [given] if given is not None else []:
                yield key.name, key.write(value)
        yield from self.documents
        for word in self.words:
            yield "q", quoted(word, word=True)

    def to_query(self) -> dict[str, list[str]]:
        """Write URL parameters that `from_query` reads back; for `urlencode(…, doseq=True)`."""
        query: dict[str, list[str]] = {}
        for key, value in self.pairs():
            query.setdefault(key, []).append(value)
        if "q" in query:
            query["q"] = [" ".join(query["q"])]
        return query

    def to_text(self) -> str:
        """Write search text that `from_text` reads back."""
        return " ".join(value if key == "q" else f"{key}:{quoted(value)}" for key, value in self.pairs())

    def without(self, key: str, value: str) -> TaskFilter:
        """Leave out one of the conditions that `pairs` names; one that is not there changes nothing."""
        build = Build(None)
        for each in self.pairs():
            if each != (key, value):
                if each[0] == "q":
                    build.text(each[1])
                else:
                    build.add(*each)
        return TaskFilter(**build.done())

    @property
    def narrow(self) -> bool:
        """Whether the rows are few whatever their age: a task looked for by its id is to be found."""
        return bool(self.ids or self.correlation_ids or self.parents or self.seals)

    @property
    def needs_window(self) -> bool:
        """Whether no index finds some of it, and nothing else here makes the rows few; see Note [What is cheap]."""
        return bool(self.documents) and not self.narrow

    def is_backwards(self, now: datetime) -> bool:
        """Whether a range ends before or as it begins, so that no task can be in it.

        Args:
            now: from which spans count back.
        """
        pairs = ((self.since, self.until), (self.finished_since, self.finished_until))
        ranges = [[now - end if isinstance(end, timedelta) else end for end in pair if end] for pair in pairs]
        return any(len(both) == 2 and both[0] >= both[1] for both in ranges)

    @property
    def chooses_by_end(self) -> bool:
        """Whether it leaves out tasks for how they ended, so that a rate of failures among the others says nothing."""
        ends = {str(Status.COMPLETED), str(Status.FAILED)}
        some = bool(self.statuses) and len(ends & set(self.statuses)) == 1
        return bool(some or self.failures or self.error_types) or any(
            path.startswith("outcome.") for path, _ in self.documents
        )

    def within(self, span: timedelta = DEFAULT_WINDOW) -> TaskFilter:
        """Add a window of time, unless a beginning or all time was asked for or the rows are few anyhow (`narrow`).

        Args:
            span: counted back from `until` when there is one, else from now; cut where it would begin before anything
                can be stored, or further back than a filter may say.
        """
        if self.all_time or self.since is not None or self.finished_since is not None or self.narrow:
            return self
        if self.until is None:
            return replace(self, since=span)
        if isinstance(self.until, timedelta):
            return replace(self, since=min(self.until + span, LONGEST_SPAN))
        room = self.until - validation.EARLIEST
        return replace(self, since=self.until - span if span < room else validation.EARLIEST)

    def apply(self, queryset: TaskQuerySet) -> TaskQuerySet:
        """Narrow a queryset of tasks; see Note [What is cheap].

        Raises:
            InvalidFilter: a pattern of actors fits too many, or too many are there; it is looked up at once.
        """
        if self.statuses:
            queryset = queryset.filter(status__in=self.statuses)
        if self.services:
            queryset = queryset.touching(*self.services)
        if self.any_services:
            queryset = queryset.touching_any(*self.any_services)
        if self.actions:
            queryset = queryset.with_action(*self.actions)
        if self.actors:
            names = matching(queryset.db, self.actors)
            queryset = queryset.filter(Q(requested_by__in=names) | Q(decided_by__in=names) | Q(actor__in=names))
        for name in ("since", "until", "finished_since", "finished_until"):
            if (moment := getattr(self, name)) is not None:
                queryset = getattr(queryset, name)(moment)
        if self.correlation_ids:
            queryset = queryset.filter(correlation_id__in=self.correlation_ids)
        if self.ids:
            ranges = (Q(id__gte=UUID(each.ljust(32, "0")), id__lte=UUID(each.ljust(32, "f"))) for each in self.ids)
            queryset = queryset.filter(_any(ranges))
        if self.parents:
            queryset = queryset.filter(parent__in=self.parents)
        if self.failures:
            queryset = queryset.filter(_failed_by(self.failures))
        if self.seals:
            queryset = queryset.filter(named_by_verification())
        if self.error_types:
            queryset = queryset.filter(fails_with(self.error_types))
        for path, value in self.documents:
            queryset = queryset.filter(Exact(_at(path), value))
        for word in self.words:
            queryset = queryset.filter(has_word(word))
        return queryset

    def __bool__(self) -> bool:
        """Whether there is any condition at all."""
        return any(getattr(self, each.name) not in ((), None, False) for each in fields(self))


def _at(path: str) -> Func:
    """Take the text at a path into a JSON column; a number is an index in a list and a key in an object."""
    root, *keys = path.split(".")
    inner = Value(keys, output_field=ArrayField(TextField()))
    return Func(F(root), inner, template="(%(expressions)s)", arg_joiner=" #>> ", output_field=TextField())


def _failed_by(classes: tuple[str, ...]) -> Q:
    failed = Q(status=Status.FAILED)
    if len(classes) == len(FailureClass):
        return failed
    lacking = resource_errors()
    if FailureClass.RESOURCE in classes:
        return failed & fails_with(lacking)
    # What has no error type is not a resource constraint either.
    return failed & ~Q(In(Coalesce(ERROR_TYPE, Value("")), lacking))


def _any(conditions: Iterable[Q]) -> Q:
    joined = Q()
    for each in conditions:
        joined |= each
    return joined
