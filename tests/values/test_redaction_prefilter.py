"""What decides that a rule has nothing to find changes nothing: all rules on the same texts mask the same."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.values.redaction import MASK, markup, masking, prose, redact_text, shell, texts
from audit.values.redaction.commands import words_of
from audit.values.redaction.shapes import key_blocks, shapes
from tests.values import test_redaction, test_redaction_plain, test_redaction_properties, test_redaction_secrets

SHARED = Path(__file__).resolve().parents[3] / "shared"
SECRET = "Zx9wQ7pLm2Vt"


class _Always:
    """A prefilter that lets everything pass."""

    def search(self, *_: Any) -> bool:
        return True


@pytest.fixture
def without_prefilter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what masks a text by every rule there is."""

    def spans(text: str, small: str) -> Iterator[tuple[int, int]]:
        yield from key_blocks(text)
        yield from shapes(text)
        yield from shell.commands(text, small, words_of(small))
        for rule, _ in texts._ALWAYS + texts._WITH_NAMES:
            yield from rule(text, small)

    def masked(text: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(masking, "spans", spans)
            patch.setattr(masking, "_seen", set())
            for module, name in (
                (prose, "_MAY_CALL"),
                (markup, "_GIVEN"),
                (markup, "_KUBE_SECRET"),
                (shell, "_LOGIN"),
                (shell, "_PORT"),
            ):
                patch.setattr(module, name, _Always())
            return redact_text(text)

    return masked


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield json.dumps(value, ensure_ascii=False)
        yield from (each for inner in value.items() for each in _strings(list(inner)))
    elif isinstance(value, list | tuple):
        yield from (each for inner in value for each in _strings(inner))


def _samples() -> list[str]:
    found = [
        *(text for text, _ in test_redaction.TEXTS),
        *test_redaction_plain.TEXTS,
        *test_redaction_plain.COMMANDS,
        *test_redaction_secrets.TEXTS,
        *test_redaction_secrets.COMMANDS,
        *test_redaction_properties.HOSTILE,
        *(token for tokens in test_redaction_secrets.TOKENS.values() for token in tokens),
        *_strings([*test_redaction_plain.DOCUMENTS, *test_redaction_secrets.DOCUMENTS]),
    ]
    return [each.replace("§", SECRET) for each in found]


SAMPLES = _samples()


@pytest.mark.parametrize(
    "text",
    [
        "echo hunter2x9 | cryptsetup luksOpen /dev/sda1 data",
        "echo 'hunter2x9' | smbclient //srv/share",
        "echo hunter2x9 | tool -stdin",
        "tool -stdin <<< hunter2x9",
        "password → hunter2x9",
        "k: DB_PASSWORD\nv: hunter2x9",
        ":6379>  AUTH hunter2x9",
    ],
)
def test_no_word_that_a_rule_begins_with_is_passed_over(text: str) -> None:
    assert "hunter2x9" not in redact_text(text)


def test_each_sample_alone_is_masked_the_same(without_prefilter: Any) -> None:
    masked = 0
    for text in SAMPLES:
        expected = without_prefilter(text)
        assert redact_text(text) == expected
        masked += expected != text
    assert masked > len(SAMPLES) / 4


@pytest.mark.parametrize("seed", range(8))
def test_samples_and_pieces_of_them_in_one_text_are_masked_the_same(seed: int, without_prefilter: Any) -> None:
    chance = random.Random(seed)
    prose_ = [line for line in (SHARED.parent / "README.md", Path(__file__)) if line.is_file()]
    lines = [*SAMPLES, *(line for path in prose_ for line in path.read_text(encoding="utf-8").splitlines())]
    masked = 0
    for _ in range(150):
        text = ""
        for _ in range(chance.choice([2, 3, 5, 60])):
            piece = chance.choice(lines)
            if chance.random() < 0.3 and len(piece) > 3:
                begin = chance.randrange(len(piece))
                piece = piece[begin : begin + chance.randint(1, len(piece))]
            text += piece + chance.choice(["", "", " ", "\n", ", ", "'", '"', "é", "\u200b"])
        expected = without_prefilter(text)
        assert redact_text(text) == expected
        masked += MASK in expected
    assert masked > 50


def test_the_cases_are_masked_the_same(without_prefilter: Any) -> None:
    path = SHARED / "cases" / "redaction.json"
    if not path.is_file():
        pytest.skip(f"no cases at {path}")
    for text in _strings(json.loads(path.read_text())):
        assert redact_text(text) == without_prefilter(text)


def test_real_events_are_masked_the_same(without_prefilter: Any) -> None:
    folder = SHARED / "data" / "cloudtrail"
    if not folder.is_dir():
        pytest.skip(f"no CloudTrail events at {folder}")
    events = [event for path in sorted(folder.glob("*.json")) for event in json.loads(path.read_text())["Records"]]
    for event in events[::5]:
        text = json.dumps(event)
        assert redact_text(text) == without_prefilter(text)


def test_a_short_text_that_holds_a_secret_is_not_kept() -> None:
    masking._seen.clear()
    assert redact_text("order 12345 shipped") == "order 12345 shipped"
    assert redact_text(f"password={SECRET}") == f"password={MASK}"
    assert masking._seen == {"order 12345 shipped"}
    for number in range(5000):
        redact_text(f"order {number:05} shipped")
    assert len(masking._seen) <= 4096
