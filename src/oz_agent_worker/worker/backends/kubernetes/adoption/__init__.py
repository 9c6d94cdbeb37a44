"""Whose Job is whose: executions that an earlier worker left, and when they are this worker's to follow."""
