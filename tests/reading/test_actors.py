"""Patterns of actors: which names they match, and which are close to a name."""

import pytest

from audit.exceptions import InvalidFilter
from audit.models import Task
from audit.reading.filters import TaskFilter, actors
from audit.reading.filters.actors import close_to, matching
from tests.support.factories import requested


class TestPatternsOfActors:
    """`actor:*bert-jan*`: the names that it fits, in whatever column, found by the indexes of names."""

    ARN = "arn:aws:sts::1:assumed-role/deployers/bert-jan"

    def _three(self):
        requested(actor=self.ARN).approve(actor="Bert-Jan@example.org")
        task = requested(actor="alice")
        task.approve(actor="bert_jan")
        return {self.ARN, "Bert-Jan@example.org"}, task

    def test_a_pattern_finds_a_part_of_a_name_in_whatever_case(self, db):
        names, other = self._three()
        wanted = TaskFilter.from_text("actor:*BERT-jan*")
        assert set(matching("default", wanted.actors)) == names
        assert [each.pk for each in wanted.apply(Task.objects.all())] != [other.pk]
        assert wanted.apply(Task.objects.all()).count() == 1
        assert TaskFilter.from_text(wanted.to_text()) == wanted

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("*/bert-jan", {ARN}),
            ("arn:*bert*", {ARN}),
            ("bert-jan*", {"Bert-Jan@example.org"}),
            ("bert_jan*", {"bert_jan"}),  # no sign of SQL means anything
            ("ber%jan*", {"ber%jan*"}),
            ("*nobody*", {"*nobody*"}),
            ("alice", {"alice"}),
        ],
    )
    def test_what_fits(self, db, pattern, found):
        self._three()
        assert set(matching("default", (pattern,))) == found

    def test_a_name_without_a_pattern_asks_nothing(self, db, django_assert_num_queries):
        with django_assert_num_queries(0):
            assert matching("default", ("alice", "bert")) == ("alice", "bert")

    @pytest.mark.parametrize("pattern", ["*", "*ab*", "**-**"])
    def test_too_little_of_a_name_is_refused(self, db, pattern):
        with pytest.raises(InvalidFilter, match="at least 3 letters or digits"):
            matching("default", (pattern,))

    def test_too_many_names_are_refused_with_the_way_out(self, db, monkeypatch):
        for number in range(4):
            requested(actor=f"user-{number}")
        monkeypatch.setattr(actors, "MOST_VALUES", 4)
        assert len(matching("default", ("*user*",))) == 4
        monkeypatch.setattr(actors, "MOST_VALUES", 3)
        with pytest.raises(InvalidFilter, match="fits more than 3 actors; write more of the name"):
            matching("default", ("*user*",))
        monkeypatch.setattr(actors, "MOST_NAMES", 4)
        assert matching("default", ("*ser-2*",)) == ("user-2",)
        monkeypatch.setattr(actors, "MOST_NAMES", 3)
        with pytest.raises(InvalidFilter, match="more than 3 actors; write the whole name"):
            matching("default", ("*ser-2*",))

    def test_close_names(self, db):
        names, _task = self._three()
        assert close_to("default", "bert-jan") == sorted(names)
        assert close_to("default", "brt-jan") == [self.ARN, "bert_jan"]
        assert close_to("default", "zzzzzz") == []
        assert close_to("default", "alice") == []
