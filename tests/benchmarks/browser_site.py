"""Two admin sites over the same tasks: ours, and what one writes in a minute with a stock `ModelAdmin`."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import path

from audit.models import ExecutionLog, Task

__all__ = ["urlpatterns"]


class _Service(admin.SimpleListFilter):
    title = "service"
    parameter_name = "service"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in ("billing", *(f"svc-{number}" for number in range(9)))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        return queryset.filter(services_touched__contains=[self.value()]) if self.value() else queryset


class _Log(admin.TabularInline):
    model = ExecutionLog
    fields = ("at", "kind", "from_status", "to_status", "actor", "action", "duration_ms", "output_summary")
    readonly_fields = fields
    ordering = ("id",)
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class _StockTask(admin.ModelAdmin):
    list_display = ("summary", "status", "created_at", "action", "services_touched", "actor", "took")
    list_filter = ("status", _Service, "action", "actor")
    search_fields = ("summary", "action", "correlation_id")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    list_per_page = 50
    inlines = (_Log,)

    def took(self, task: Task) -> Any:
        return task.finished_at - task.started_at if task.finished_at and task.started_at else None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


_stock = admin.AdminSite(name="stock")
_stock.register(Task, _StockTask)

urlpatterns = [path("ours/", admin.site.urls), path("stock/", _stock.urls)]
