"""The verbs that request, move and annotate tasks and pause entries."""
