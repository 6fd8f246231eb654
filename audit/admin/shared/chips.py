"""The conditions that a page is asked for, each with a link that takes it away."""

from __future__ import annotations

from django.utils.translation import gettext_lazy

from audit.admin.shared.links import Link
from audit.admin.shared.query import ListQuery
from audit.admin.shared.wording import shown
from audit.status import FailureClass, Status

__all__ = ["chips"]

_LABELS = {
    "status": gettext_lazy("status"),
    "service": gettext_lazy("service"),
    "any_service": gettext_lazy("any service"),
    "action": gettext_lazy("action"),
    "actor": gettext_lazy("actor"),
    "since": gettext_lazy("since"),
    "until": gettext_lazy("until"),
    "finished_since": gettext_lazy("finished since"),
    "finished_until": gettext_lazy("finished until"),
    "correlation_id": gettext_lazy("correlation id"),
    "id": gettext_lazy("id"),
    "parent": gettext_lazy("parent"),
    "failure": gettext_lazy("failure"),
    "seal": gettext_lazy("seal"),
    "error_type": gettext_lazy("error"),
    "q": gettext_lazy("search"),
}
_ENUMS: dict[str, type[Status] | type[FailureClass]] = {"status": Status, "failure": FailureClass}


def chips(query: ListQuery) -> list[Link]:
    """What is asked beside the range, each with a link that takes it away."""
    return [
        Link(
            label=_LABELS.get(key, key),
            value=str(_ENUMS[key](value).label) if key in _ENUMS else shown(value, 80, name=key == "actor"),
            url=query.links.removing(key, value),
            tone=value if key == "status" else "",
        )
        for key, value in query.filter.pairs()
        if key not in ("since", "until")
    ]
