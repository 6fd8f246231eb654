"""The half of the ledger that works offline: the standard library and cryptography, nothing else."""
