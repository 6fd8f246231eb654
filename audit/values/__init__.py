"""Values as the trail stores and shows them: checked, as JSON text, redacted, fit for a terminal."""
