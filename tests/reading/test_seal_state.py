"""How a finished row stands in the ledger, by its leaf and the newest verification."""

import pytest

from audit.reading.seal_state import SealState, seal_state


@pytest.mark.parametrize(
    ("leaf", "verdict", "state"),
    [
        (0, "intact", SealState.VERIFIED),
        (4, "intact", SealState.VERIFIED),
        # Leaves are counted from 0: this one was appended after the verification of 5 leaves.
        (5, "intact", SealState.SEALED),
        (6, "intact", SealState.SEALED),
        (4, "unchecked", SealState.SEALED),
        (4, "tampering", SealState.UNCLEAR),
        (5, "tampering", SealState.UNCLEAR),
        (None, "intact", SealState.UNSEALED),
        (None, "tampering", SealState.UNSEALED),
    ],
)
def test_a_row_is_verified_only_within_the_size_that_was_verified(leaf, verdict, state) -> None:
    assert seal_state(leaf, None, verdict, 5) is state
    assert seal_state(leaf, "row_changed", verdict, 5) is SealState.FAILED


def test_without_a_verification_a_sealed_row_is_sealed() -> None:
    assert seal_state(0, None, None, None) is SealState.SEALED
