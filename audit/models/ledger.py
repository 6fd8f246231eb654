"""The tables of the ledger: the leaves of one Merkle tree over what finished, its tiles, head and checkpoints."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Length, Now
from django.db.models.lookups import Exact
from django.utils.translation import gettext_lazy as _

from audit.models.fields import JSONField, XidField, readable
from audit.models.saving import Undeletable

__all__ = ["LedgerCheckpoint", "LedgerEpoch", "LedgerHead", "LedgerLeaf", "LedgerTile", "LedgerVerification", "Verdict"]


def _long(name: str, column: str, size: int) -> models.CheckConstraint:
    return models.CheckConstraint(name=name, condition=Exact(Length(column), size))


class LedgerLeaf(Undeletable):
    """The place of a sealed row in the tree. The database allows inserts only.

    There are no foreign keys, so that a verification can find a row that is gone.
    """

    index = models.BigIntegerField(_("index"), primary_key=True)
    task_id = models.UUIDField(_("task"), null=True, blank=True, db_default=None)
    log_id = models.BigIntegerField(_("log row"), null=True, blank=True, db_default=None)
    epoch = models.IntegerField(_("epoch"), null=True, blank=True, db_default=None)
    salt = models.BinaryField(_("salt"))
    leaf_hash = models.BinaryField(_("leaf hash"))

    objects: ClassVar[models.Manager[LedgerLeaf]] = models.Manager()

    class Meta:
        db_table = "audit_ledger_leaf"
        default_permissions = ("view",)
        verbose_name = _("ledger leaf")
        verbose_name_plural = _("ledger leaves")
        constraints = [
            models.CheckConstraint(
                name="audit_ledger_leaf_one_row",
                condition=Q(index__gte=0)
                & (
                    Q(task_id__isnull=False, log_id__isnull=True, epoch__isnull=True)
                    | Q(task_id__isnull=True, log_id__isnull=False, epoch__isnull=True)
                    | Q(task_id__isnull=True, log_id__isnull=True, epoch__isnull=False)
                ),
            ),
            _long("audit_ledger_leaf_salt_long", "salt", 16),
            _long("audit_ledger_leaf_hash_long", "leaf_hash", 32),
            models.UniqueConstraint(
                fields=["task_id"], name="audit_ledger_leaf_task", condition=Q(task_id__isnull=False)
            ),
            models.UniqueConstraint(fields=["log_id"], name="audit_ledger_leaf_log", condition=Q(log_id__isnull=False)),
            models.UniqueConstraint(fields=["epoch"], name="audit_ledger_leaf_epoch", condition=Q(epoch__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.index}"


class LedgerTile(Undeletable):
    """Up to 256 neighbouring hashes of the tree, as C2SP tlog-tiles groups them. The last tile of a level still grows.

    Tiles are derived from the leaves, so that a proof need not read all of them.
    """

    pk = models.CompositePrimaryKey("level", "index")
    level = models.SmallIntegerField(_("level"))
    index = models.BigIntegerField(_("index"))
    data = models.BinaryField(_("hashes"))

    objects: ClassVar[models.Manager[LedgerTile]] = models.Manager()

    class Meta:
        db_table = "audit_ledger_tile"
        default_permissions = ()
        verbose_name = _("ledger tile")
        verbose_name_plural = _("ledger tiles")

    def __str__(self) -> str:
        return f"{self.level}/{self.index}"


class LedgerHead(Undeletable):
    """Where sealing stands; one row, locked by the sealer."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    epoch = models.IntegerField(_("epoch"), db_default=1)
    size = models.BigIntegerField(_("size"), db_default=0)
    # The roots of the full subtrees that make up the tree, the largest first, 32 bytes each.
    frontier = models.BinaryField(_("frontier"), db_default=b"")
    # Rows of transactions below this mark have their leaf, or were never written by a transaction of this server.
    low_xid = XidField(_("low-water mark"), db_default=0)
    system_identifier = models.TextField(_("system identifier"), db_default="")
    sealed_at = models.DateTimeField(_("sealed at"), null=True, db_default=None)

    objects: ClassVar[models.Manager[LedgerHead]] = models.Manager()

    class Meta:
        db_table = "audit_ledger_head"
        default_permissions = ()
        verbose_name = _("ledger head")
        verbose_name_plural = _("ledger head")
        constraints = [
            models.CheckConstraint(name="audit_ledger_head_one", condition=Q(id=1, size__gte=0, epoch__gte=1)),
            models.CheckConstraint(name="audit_ledger_head_moment_readable", condition=readable("sealed_at")),
        ]

    def __str__(self) -> str:
        return f"{self.size}"


class LedgerCheckpoint(Undeletable):
    """A signed note (C2SP tlog-checkpoint) of the sealer, one for each size of an epoch. Inserts only."""

    id = models.BigAutoField(primary_key=True)
    epoch = models.IntegerField(_("epoch"))
    size = models.BigIntegerField(_("size"))
    root = models.BinaryField(_("root"))
    note = models.TextField(_("note"))
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    objects: ClassVar[models.Manager[LedgerCheckpoint]] = models.Manager()

    class Meta:
        db_table = "audit_ledger_checkpoint"
        default_permissions = ("view",)
        verbose_name = _("checkpoint")
        verbose_name_plural = _("checkpoints")
        constraints = [
            models.UniqueConstraint(fields=["epoch", "size"], name="audit_ledger_checkpoint_size"),
            models.CheckConstraint(name="audit_ledger_checkpoint_grown", condition=Q(size__gt=0, epoch__gte=1)),
            _long("audit_ledger_checkpoint_root_long", "root", 32),
            models.CheckConstraint(name="audit_ledger_checkpoint_moment_readable", condition=readable("created_at")),
        ]

    def __str__(self) -> str:
        return f"{self.size} ({self.epoch})"


class LedgerEpoch(Undeletable):
    """Why the tree went on from an older state (a restored backup), and from which checkpoint. Inserts only.

    The row is itself a leaf of the tree. The first epoch has no row.
    """

    number = models.IntegerField(_("number"), primary_key=True)
    origin = models.TextField(_("origin"))
    size = models.BigIntegerField(_("size"))
    previous = models.TextField(_("previous checkpoint"))
    reason = models.TextField(_("reason"))
    actor = models.TextField(_("actor"))
    started_at = models.DateTimeField(_("started at"))
    row_version = models.SmallIntegerField(_("row version"))

    objects: ClassVar[models.Manager[LedgerEpoch]] = models.Manager()

    class Meta:
        db_table = "audit_ledger_epoch"
        default_permissions = ("view",)
        verbose_name = _("epoch")
        verbose_name_plural = _("epochs")
        constraints = [
            models.CheckConstraint(
                name="audit_ledger_epoch_reasoned", condition=Q(number__gte=2, size__gte=0) & ~Q(reason="")
            ),
            models.CheckConstraint(name="audit_ledger_epoch_moment_readable", condition=readable("started_at")),
        ]

    def __str__(self) -> str:
        return f"{self.number}"


class Verdict(models.TextChoices):
    """The result of a verification."""

    INTACT = "intact", _("intact")
    TAMPERING = "tampering", _("tampering")
    UNCHECKED = "unchecked", _("could not check")


class LedgerVerification(Undeletable):
    """What a verification found. Inserts only. The browser shows these rows and never verifies by itself."""

    id = models.BigAutoField(primary_key=True)
    started_at = models.DateTimeField(_("started at"))
    finished_at = models.DateTimeField(_("finished at"), db_default=Now())
    verdict = models.TextField(_("verdict"), choices=Verdict)
    size = models.BigIntegerField(_("size"))
    unsealed = models.BigIntegerField(_("unsealed rows"))
    oldest_unsealed = models.DateTimeField(_("oldest unsealed row"), null=True)
    report = JSONField(_("report"))
    actor = models.TextField(_("actor"), blank=True, db_default="")

    objects: ClassVar[models.Manager[LedgerVerification]] = models.Manager()

    class Meta:
        db_table = "audit_ledger_verification"
        default_permissions = ("view",)
        verbose_name = _("verification")
        verbose_name_plural = _("integrity")
        constraints = [
            models.CheckConstraint(name="audit_ledger_verification_known", condition=Q(verdict__in=Verdict.values)),
            models.CheckConstraint(
                name="audit_ledger_verification_moments_readable",
                condition=readable("started_at", "finished_at", "oldest_unsealed"),
            ),
        ]
        indexes = [models.Index(F("finished_at").desc(), name="audit_ledger_verification_last")]

    def __str__(self) -> str:
        return f"{self.verdict} ({self.finished_at})"
