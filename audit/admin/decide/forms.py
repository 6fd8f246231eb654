"""What a person fills in to confirm a decision: why and, to defer, until when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin.shared.wording import shown
from audit.decisions import MAX_REASON
from audit.exceptions import InvalidValue
from audit.values import validation

__all__ = ["DeferForm", "ReasonForm"]


class ReasonForm(forms.Form):
    """Why, in words."""

    reason = forms.CharField(
        max_length=MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off"}),
        error_messages={"required": gettext_lazy("Give a reason; it stays in the record.")},
    )

    def clean_reason(self) -> str:
        """Check what the database could not store."""
        try:
            return validation.label("reason", self.cleaned_data["reason"], max_length=MAX_REASON)
        except InvalidValue as error:
            raise forms.ValidationError(error.problem) from None

    def __init__(self, data: Mapping[str, Any] | None = None, **options: Any) -> None:
        if data is not None:
            given = {name: data.get(name, "") for name in self.base_fields}
            # A browser sends line ends as two characters and counts them as one.
            given["reason"] = given["reason"].replace("\r\n", "\n")
            data = given
        super().__init__(data, **options)
        for name, field in self.fields.items():
            field.widget.attrs["aria-describedby"] = f"audit-{name}-help"
            if self.is_bound and name in self.errors:
                field.widget.attrs |= {"aria-invalid": "true", "autofocus": True}

    def kept(self) -> str:
        """What was typed, to go on from: never more than would do."""
        return shown(self["reason"].value(), MAX_REASON + 500) if self.is_bound else ""


class DeferForm(ReasonForm):
    """Why, and until when."""

    until = forms.DateTimeField(
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        error_messages={
            "required": gettext_lazy("Give the time it becomes due."),
            "invalid": gettext_lazy("That is not a date and time."),
        },
    )

    def __init__(self, data: Mapping[str, Any] | None = None, *, now: datetime, **options: Any) -> None:
        # What fills in a form checks it, too.
        self._now = now
        super().__init__(data, **options)

    def clean_until(self) -> datetime:
        """Check that the time lies ahead, and within what can be stored."""
        try:
            value = validation.moment("until", self.cleaned_data["until"])
        except InvalidValue as error:
            raise forms.ValidationError(error.problem) from None
        if value <= self._now:
            raise forms.ValidationError(_("That time is past; to let it go on now, resume it."))
        return value
