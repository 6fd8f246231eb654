"""audit.testing: flushing a test database, and asserting refusals; test_host_project.py uses them."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.core.management.color import no_style
from django.db import DataError, IntegrityError, connection, connections, transaction
from django.test import TransactionTestCase, utils

from audit.exceptions import AppendOnly, AuditError
from audit.models import Agent, ExecutionLog, ResourceMetric, Task
from audit.testing import GuardedFlushMixin, flushable, refused

TRANSACTIONAL = pytest.mark.django_db(transaction=True)


def _states(on=connection) -> set[str]:
    with on.cursor() as cursor:
        cursor.execute("SELECT tgenabled FROM pg_trigger WHERE tgname LIKE 'audit%no_truncate'")
        return {state for (state,) in cursor.fetchall()}


def _flush(alias: str = "default") -> None:
    call_command("flush", interactive=False, verbosity=0, database=alias)


def _composed(tables: list[str], **options: bool) -> list[str]:
    return connection.ops.sql_flush(no_style(), tables, **options)


@pytest.fixture
def task() -> Task:
    return Task.objects.request("deploy", actor="alice")


@TRANSACTIONAL
@pytest.mark.parametrize("repetition", [1, 2])
def test_the_plugin_empties_the_tables_between_tests(repetition):
    assert not Task.objects.exists()
    assert not ExecutionLog.objects.exists()
    Task.objects.request("deploy", actor="alice")
    assert ExecutionLog.objects.exists()
    assert _states() == {"A"}


@TRANSACTIONAL
def test_a_plain_flush_is_refused(task):
    with pytest.raises(CommandError) as caught:
        _flush()
    assert caught.value.__cause__.__cause__.sqlstate == "23001"
    assert Task.objects.filter(pk=task.pk).exists()


@TRANSACTIONAL
def test_flushable_lets_it_through_and_arms_again(task):
    with flushable():
        _flush()
        assert _states() == {"A"}
    assert not Task.objects.exists()
    with pytest.raises(CommandError):
        _flush()


@TRANSACTIONAL
def test_a_guard_that_was_off_is_on_after_a_flush():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_task DISABLE TRIGGER audit_task_10_no_truncate")
    with flushable():
        _flush()
    assert _states() == {"A"}


@TRANSACTIONAL
def test_other_guards_stay_on_inside(task):
    with flushable():
        with refused(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM audit_task")
        with refused(), connection.cursor() as cursor:
            cursor.execute("TRUNCATE audit_task CASCADE")


@TRANSACTIONAL
def test_a_flush_that_fails_leaves_the_guards_on(task):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE host_table (task uuid REFERENCES audit_task)")
    try:
        with flushable(), pytest.raises(CommandError):
            _flush()
        assert _states() == {"A"}
        assert Task.objects.filter(pk=task.pk).exists()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE host_table")


@TRANSACTIONAL
def test_no_other_session_sees_a_guard_off():
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    with flushable():
        statements = _composed(tables)
    with transaction.atomic(), closing(connection.copy()) as other, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            assert _states(other) == {"A"}
            if statement.startswith("TRUNCATE"):
                assert _states() == {"D"}
        assert _states() == {"A"}


@TRANSACTIONAL
def test_only_a_flush_that_reaches_the_audit_tables_is_changed():
    plain = "TRUNCATE {};".format
    with flushable():
        assert _composed(["django_session"]) == [plain('"django_session"')]
        assert _composed([]) == []
        with flushable():
            framed = _composed(["audit_task"])
        assert [each.split()[0] for each in framed] == ["LOCK", "ALTER", "TRUNCATE", "ALTER"]
        # CASCADE may reach any table.
        models = set(apps.get_app_config("audit").get_models())
        guarded = len(models - {Agent, ResourceMetric})  # the registry is no part of the trail
        assert len(_composed(["django_session"], allow_cascade=True)) == 2 + 2 * guarded
    assert _composed(["audit_task"]) == [plain('"audit_task"')]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_only_the_databases_named_are_meant(task):
    with flushable("other"):
        with pytest.raises(CommandError):
            _flush()
        _flush("other")
    assert Task.objects.filter(pk=task.pk).exists()


@pytest.fixture
def lite() -> Iterator[str]:
    connections.settings["lite"] = connections.settings["default"] | {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
    }
    yield "lite"
    del connections["lite"]
    del connections.settings["lite"]


def test_what_is_not_postgresql_is_left_alone(lite):
    with flushable(lite):
        assert "sql_flush" not in vars(connections[lite].ops)


class _Real:
    """Ways in which a database is not a test runner's."""

    @staticmethod
    def named_otherwise(monkeypatch):
        monkeypatch.setitem(connection.settings_dict["TEST"], "NAME", "another")

    @staticmethod
    def without_prefix(monkeypatch):
        monkeypatch.setitem(connection.settings_dict["TEST"], "NAME", None)
        monkeypatch.setattr("django.db.backends.base.creation.TEST_DATABASE_PREFIX", "prefix_")

    @staticmethod
    def without_runner(monkeypatch):
        monkeypatch.delattr(utils._TestState, "saved_data")

    @staticmethod
    def elsewhere(monkeypatch):
        # The name is right, and the connection leads to another database (a service file, a pooler).
        monkeypatch.setitem(connection.settings_dict, "NAME", "test_elsewhere")
        monkeypatch.setitem(connection.settings_dict["TEST"], "NAME", "test_elsewhere")


@TRANSACTIONAL
@pytest.mark.parametrize("way", ["named_otherwise", "without_prefix", "without_runner", "elsewhere"])
def test_a_real_database_is_not_emptied(way, task, monkeypatch):
    actual = connection.settings_dict["NAME"]
    with monkeypatch.context() as changed:
        getattr(_Real, way)(changed)
        with flushable(), pytest.raises(AuditError, match=rf"{actual}.*not one that a test runner made"):
            _flush()
    assert _states() == {"A"}
    assert Task.objects.filter(pk=task.pk).exists()


@TRANSACTIONAL
@pytest.mark.parametrize("base", ["name", "prefix"])
def test_clones_and_prefixed_databases_are_test_databases(base, monkeypatch):
    actual = connection.settings_dict["NAME"]
    assert actual.startswith("test_")
    with monkeypatch.context() as changed:
        changed.setitem(connection.settings_dict["TEST"], "NAME", actual.rpartition("_")[0] if base == "name" else None)
        with flushable():
            _flush()


@TRANSACTIONAL
def test_the_mixin_flushes_without_the_plugin(task, monkeypatch):
    monkeypatch.setattr(TransactionTestCase, "_fixture_teardown", TransactionTestCase._fixture_teardown.__wrapped__)

    class Plain(TransactionTestCase):
        def runTest(self):  # noqa: N802 - unittest's name
            """Nothing."""

    class Mixed(GuardedFlushMixin, Plain):
        pass

    with pytest.raises(CommandError):
        Plain()._fixture_teardown()
    Mixed()._fixture_teardown()
    assert not Task.objects.exists()


@pytest.mark.django_db
def test_refused_says_what_the_database_answered(task):
    task.reject(actor="bob")
    with refused() as refusal:
        assert refusal.message == ""
        Task.objects.filter(pk=task.pk).update(summary="another")
    assert refusal.sqlstate == "23001"
    assert str(task.pk) in refusal.message
    assert refusal.hint
    assert isinstance(refusal.error, IntegrityError)
    # The transaction goes on.
    assert Task.objects.get(pk=task.pk).summary == ""


@pytest.mark.django_db
def test_refused_sees_through_the_errors_of_this_app(task):
    with refused() as refusal:
        task.delete()
    assert isinstance(refusal.error, AppendOnly)
    assert "never deleted" in refusal.message


@pytest.mark.django_db
def test_refused_fails_where_nothing_refuses(task):
    with pytest.raises(AssertionError, match="23001 was expected"), refused():
        Task.objects.filter(pk=task.pk).update(summary="another")
    assert Task.objects.get(pk=task.pk).summary == ""


@pytest.mark.django_db
def test_refused_passes_other_errors_on(task):
    with pytest.raises(IntegrityError) as caught, refused():
        Task.objects.filter(pk=task.pk).update(priority=9)
    assert caught.value.__cause__.sqlstate == "23514"
    with pytest.raises(DataError), refused(), connection.cursor() as cursor:
        cursor.execute("SELECT 1/0")
    with pytest.raises(LookupError), refused():
        raise LookupError
    with refused(sqlstate="23514") as refusal:
        Task.objects.filter(pk=task.pk).update(priority=9)
    assert "priority" in refusal.message


@pytest.mark.django_db(databases=["default", "other"])
def test_refused_on_another_database():
    task = Task.objects.using("other").request("deploy")
    task.reject()
    with refused(using="other"):
        Task.objects.using("other").update(summary="another")
    assert Task.objects.using("other").get().summary == ""
