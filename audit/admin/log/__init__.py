"""The page of the execution log."""
