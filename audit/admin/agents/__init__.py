"""The page of the agents that take work."""
