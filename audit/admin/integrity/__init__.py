"""The page of the ledger's state and of verifications."""
