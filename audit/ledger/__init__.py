"""Proof that what is stored is what was written. Nothing in this package's `canonical` needs Django or a database."""
