"""Questions to the tables, and the statements that claim, request and recover."""
