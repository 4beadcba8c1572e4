"""Approvals that tasks and workflow steps asked for, and what became of them."""
