"""Executions: waiting for one, running a workflow to its end, running many."""
