"""Of the samples of real secrets that lie beside the checkout, at most a tenth stays readable."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.values.redaction import redact, redact_command, redact_text

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "redaction.json"
ALLOWED = 0.1


def masked(cases: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each sample's name, how it stands before masking, and after."""
    for name, argv in cases["commands"].items():
        yield f"command {name}", " ".join(argv), redact_command(argv)
    for name, text in cases["texts"].items():
        yield f"text {name}", text, redact_text(text)
    for name, document in cases["documents"].items():
        yield f"document {name}", json.dumps(document), json.dumps(redact(document))


def test_at_most_a_tenth_of_the_samples_stays_readable() -> None:
    if not CASES.is_file():
        pytest.skip(f"no cases at {CASES}")
    cases = json.loads(CASES.read_text())
    secrets = [cases["secret"], *cases["others"]]
    samples = [each for each in masked(cases) if any(secret in each[1] for secret in secrets)]
    assert len(samples) >= 100
    readable = [name for name, _, after in samples if any(secret in after for secret in secrets)]
    assert len(readable) <= ALLOWED * len(samples), readable
