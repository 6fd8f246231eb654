"""Tests as host projects have them: each kind that flushes, twice, so that one finds what the other left."""

from urllib.request import urlopen

from django.db import connections, router
from django.test import LiveServerTestCase, TestCase, TransactionTestCase

from audit.models import ExecutionLog, Task
from audit.testing import GuardedFlushMixin, refused
from shop.models import Order


class Twice:
    """Two tests that each need the tables empty."""

    databases = "__all__"

    def ship(self):
        assert not Order.objects.exists()
        assert not Task.objects.exists()
        assert not ExecutionLog.objects.exists()
        Order.objects.create(name="a lamp").ship()
        assert Task.objects.get().status == "completed"
        with refused(using=router.db_for_write(Task)) as refusal:
            Task.objects.update(summary="another")
        assert "finished" in refusal.message
        self.assert_armed()

    def assert_armed(self):
        with connections[router.db_for_write(Task)].cursor() as cursor:
            cursor.execute("SELECT tgenabled FROM pg_trigger WHERE tgname LIKE 'audit%no_truncate'")
            assert set(cursor.fetchall()) == {("A",)}

    def test_first(self):
        self.ship()

    def test_second(self):
        self.ship()


class RolledBackTests(Twice, TestCase):
    """Nothing to flush."""


class FlushedTests(Twice, TransactionTestCase):
    """TRUNCATE of every table."""


class ResetTests(Twice, TransactionTestCase):
    reset_sequences = True

    def ship(self):
        super().ship()
        assert Order.objects.get().pk == 1


class SerializedTests(Twice, TransactionTestCase):
    serialized_rollback = True


class SomeAppsTests(Twice, TransactionTestCase):
    """TRUNCATE … CASCADE of the tables of these apps."""

    available_apps = ["django.contrib.contenttypes", "audit", "shop"]


class OtherAppsTests(TransactionTestCase):
    """TRUNCATE … CASCADE that does not reach the audit tables."""

    databases = "__all__"
    available_apps = ["shop"]

    def test_first(self):
        assert not Order.objects.exists()
        Order.objects.create(name="a lamp")

    test_second = test_first


class ServedTests(Twice, LiveServerTestCase):
    def ship(self):
        assert not Task.objects.exists()
        with urlopen(f"{self.live_server_url}/ship/lamp") as answer:
            key = answer.read().decode()
        assert str(Task.objects.get().pk) == key


class MixedInTests(GuardedFlushMixin, Twice, TransactionTestCase):
    """For runners that know nothing of audit."""
