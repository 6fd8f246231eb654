"""Proof that what is stored is what was written.

The formats (`canonical`, `merkle`, `tiles`, `note`, `checkpoint`, `proof`) and the command `python -m audit.ledger`
need neither Django nor a database, so that anyone can check what they were given; what seals and verifies a database
builds on them.
"""
