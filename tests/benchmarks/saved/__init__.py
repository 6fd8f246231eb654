"""The Django app of `saves`: one model, with the history that `settings.SAVED` names."""
