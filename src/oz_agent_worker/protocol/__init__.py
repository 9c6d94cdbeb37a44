"""The protocol between control plane and worker, without I/O: frames, assignments, outcomes, reports.

Nothing in here reads a clock, opens a file or awaits: time is an argument.
"""
