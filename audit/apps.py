from typing import Any

from django.apps import AppConfig
from django.db.models.signals import pre_migrate, pre_save
from django.utils.translation import gettext_lazy as _


def _refuse_unreleased(**kwargs: Any) -> None:
    from audit.inspection.recorded_migrations import refuse_unreleased

    refuse_unreleased(**kwargs)


class AuditConfig(AppConfig):
    """The audit trail: tasks, their execution log and the pause queue."""

    name = "audit"
    label = "audit"
    verbose_name = _("Audit")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and what stops `loaddata`, and `migrate` on a database of the unreleased past."""
        from audit import checks  # noqa: F401 - importing registers them
        from audit.contrib.django_tasks import checks as task_checks  # noqa: F401 - as above
        from audit.interchange.fixtures import refuse_fixture

        for model in self.get_models():
            pre_save.connect(refuse_fixture, sender=model, dispatch_uid=f"audit.refuse_fixture.{model.__name__}")
        pre_migrate.connect(_refuse_unreleased, sender=self, dispatch_uid="audit.refuse_unreleased")
