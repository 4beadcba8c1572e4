"""Steps and variables of workflow runs."""
