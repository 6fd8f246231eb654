"""What the findings of a verification say to people."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from audit.admin.shared.wording import shown
from audit.ledger.verify.findings import Code

__all__ = ["LABELS", "code_label"]

LABELS = {
    Code.RELATION_REPLACED: _("A table is not the table"),
    Code.SCHEMA_CHANGED: _("Columns were changed"),
    Code.GUARD_OFF: _("A guard is off"),
    Code.FORGED_CHECKPOINT: _("Forged checkpoint"),
    Code.WRONG_ORIGIN: _("Checkpoint of another log"),
    Code.CHECKPOINT_DELETED: _("Checkpoint deleted"),
    Code.HISTORY_BROKEN: _("History broken"),
    Code.FORK: _("Fork: two signed trees of one size"),
    Code.ROLLBACK: _("Set back behind what was signed"),
    Code.ROW_DELETED: _("Row deleted"),
    Code.ROW_TAMPERED: _("Row changed"),
    Code.STATUS_UNLOGGED: _("Status is not the last one logged"),
    Code.PLAN_CHANGED: _("Plan is not the approved one"),
    Code.PAUSE_BROKEN: _("Pause queue does not fit the tasks"),
    Code.ROW_INSERTED: _("Row put in behind the sealer's back"),
    Code.LEAF_GAP: _("Leaf missing"),
    Code.LEAF_CHANGED: _("Leaf changed"),
    Code.LEAVES_MISSING: _("End of the tree missing"),
    Code.LEAVES_UNSIGNED: _("Leaves without a signature"),
    Code.TILE_CORRUPT: _("Tile corrupt"),
    Code.FRONTIER_ALTERED: _("Head of the ledger altered"),
    Code.ROOT_MISMATCH: _("Root is not the signed one"),
}
"""What each code says to people."""
_LABELS = {str(code): label for code, label in LABELS.items()}


def code_label(code: str) -> Any:
    """Say to people what a code means; one that this version does not know stands for itself."""
    return _LABELS.get(code) or shown(code, 60)
