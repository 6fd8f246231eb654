"""Leases: claim, prolong, keep alive, recover."""
