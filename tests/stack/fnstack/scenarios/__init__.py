"""End-to-end scenarios: the release binary, driven from outside as a user would."""
