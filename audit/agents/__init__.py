"""The registry of those who take work, their heartbeats, and readings of their machines."""
