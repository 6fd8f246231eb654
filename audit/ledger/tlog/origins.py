"""The name of the log in its checkpoints: the signing key's, and for each later epoch one of its own.

A log that went back to an older state (a restored backup) must not sign a second tree of a size under the same name:
whoever watches the old name would rightly cry fork. So it goes on under `<name>/epoch/<number>`, and the first leaf of
the epoch says which checkpoint it left behind.
"""

import re

__all__ = ["epoch_of", "log_of", "origin_of"]

_EPOCH = re.compile(r"(?P<name>.+?)/epoch/(?P<number>[1-9][0-9]{0,8})", re.ASCII)


def origin_of(name: str, epoch: int) -> str:
    """Name the log of an epoch, counted from 1."""
    return name if epoch == 1 else f"{name}/epoch/{epoch}"


def log_of(origin: str) -> str:
    """Name the log that an origin names an epoch of."""
    found = _EPOCH.fullmatch(origin)
    return found["name"] if found else origin


def epoch_of(name: str, origin: str) -> int | None:
    """Tell which epoch of the log `name` an origin names; None for another log."""
    if origin == name:
        return 1
    found = _EPOCH.fullmatch(origin)
    if found and found["name"] == name and int(found["number"]) > 1:
        return int(found["number"])
    return None
