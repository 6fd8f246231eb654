"""The mistakes that `tests.support.sample_mistakes` makes: each changes one place, and finds the tests near it."""

from pathlib import Path

import pytest

from tests.support.mistakes import find
from tests.support.sample_mistakes import nearest, sample

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "source", "kind", "mistaken"),
    [
        ("a.py", "x = a < b\n", "comparison", {"x = a <= b\n"}),
        ("a.py", "x = a not in b\n", "comparison", {"x = a in b\n"}),
        ("a.py", "x = é is None\n", "comparison", {"x = é is not None\n"}),
        ("a.py", "x = a or b and c\n", "and/or", {"x = a and b and c\n", "x = a or b or c\n"}),
        ("a.py", "x = not a\n", "not dropped", {"x = a\n"}),
        ("a.py", "x = (True, 7)\n", "constant", {"x = (False, 7)\n", "x = (True, 8)\n"}),
        ("a.py", "f(a, b=1, c=2)\n", "argument dropped", {"f(a,  c=2)\n", "f(a, b=1, )\n"}),
        ("a.py", "f(help='x')\n", "argument dropped", set()),
        ("a.py", "def f():\n    g()\n    return h()\n", "statement removed", {"def f():\n    pass\n    return h()\n"}),
        ("a.py", "if a:\n    b = 1\n", "branches swapped", {"if not (a):\n    b = 1\n"}),
        ("a.py", "x = 'SELECT 1 WHERE a <= b'\n", "SQL", {"x = 'SELECT 1 WHERE a < b'\n"}),
        ("a.py", "x = 'a text <= b'\n", "SQL", set()),
        ("a.py", 'def f():\n    "SELECT a WHERE b AND c"\n', "SQL", set()),
        ("a.sql", "-- a AND b\nIF a AND b THEN\n", "SQL", {"-- a AND b\nIF a OR b THEN\n"}),
        ("a.sql", "x\n-- backwards\na AND b\n", "SQL", set()),
    ],
)
def test_each_mistake_changes_one_place(name, source, kind, mistaken) -> None:
    found = [mistake for mistake in find(Path(name), source.encode()) if mistake.kind == kind]
    assert {mistake.mistaken.decode() for mistake in found} == mistaken
    assert all(str(mistake).startswith(f"{name}:") and mistake.compiles for mistake in found)


def test_a_sample_is_the_same_for_a_seed_has_every_kind_and_has_tests_near_it() -> None:
    first, again, other = (sample(ROOT, "audit/leases/", 24, seed) for seed in (1, 1, 2))
    assert list(map(str, first)) == list(map(str, again))
    assert list(map(str, first)) != list(map(str, other))
    assert len({mistake.kind for mistake in first}) == 8
    for mistake in first:
        assert mistake.compiles
        assert mistake.mistaken != mistake.source == (ROOT / mistake.path).read_bytes()
        assert "tests/leases/test_claims.py" in nearest(mistake, ROOT)


def test_each_module_has_tests_near_it_and_those_that_name_it_come_first() -> None:
    for path in (ROOT / "audit").rglob("*.py"):
        if path.name != "__init__.py" and (found := find(path.relative_to(ROOT), path.read_bytes())):
            near = nearest(found[0], ROOT)
            assert near
            assert all((ROOT / name).is_file() for name in near), path
    [mistake, *_] = find(Path("audit/leases/keeper.py"), (ROOT / "audit/leases/keeper.py").read_bytes())
    assert nearest(mistake, ROOT)[0] == "tests/leases/test_kept.py"


def test_a_model_is_held_to_its_migrations_and_sql_to_more_than_a_copy_of_it() -> None:
    def near(name: str) -> list[str]:
        return nearest(find(Path(name), (ROOT / name).read_bytes())[0], ROOT)

    assert "tests/guards/test_migrations.py" in near("audit/models/ledger.py")
    assert "tests/guards/test_migrations.py" not in near("audit/sql/task_write_v1.sql")
    assert "tests/contrib_django_tasks/test_calls.py" in near("audit/contrib/django_tasks/stored.py")
