"""The same for pytest's fixtures."""

from urllib.request import urlopen

import pytest

from audit.models import Task
from shop.models import Order

TWICE = pytest.mark.parametrize("repetition", [1, 2])


def _ship() -> None:
    assert not Task.objects.exists()
    Order.objects.create(name="a lamp").ship()


@TWICE
@pytest.mark.django_db(databases="__all__")
def test_rolled_back(repetition):
    _ship()


@TWICE
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_transaction(repetition):
    _ship()


@TWICE
@pytest.mark.django_db(databases="__all__")
def test_transactional_db(transactional_db, repetition):
    _ship()


@TWICE
@pytest.mark.django_db(databases="__all__")
def test_live_server(live_server, repetition):
    assert not Task.objects.exists()
    with urlopen(f"{live_server}/ship/lamp"):
        assert Task.objects.count() == 1


@TWICE
@pytest.mark.django_db(reset_sequences=True, databases="__all__")
def test_reset_sequences(repetition):
    _ship()
    assert Order.objects.get().pk == 1


@TWICE
@pytest.mark.django_db(transaction=True, serialized_rollback=True, databases="__all__")
def test_serialized_rollback(repetition):
    _ship()


@TWICE
@pytest.mark.django_db(
    transaction=True,
    available_apps=["django.contrib.contenttypes", "audit", "shop"],
    databases="__all__",
)
def test_available_apps(repetition):
    _ship()
