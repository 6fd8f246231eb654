"""The registry of those who take work, their signs of life, and readings of their machines."""
