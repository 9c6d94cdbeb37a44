"""The pure core: frames, assignments, task specs, outcomes, reports.

Nothing in here reads a clock, opens a file or awaits: time is an argument, and
each step from a wire frame to a report is a function over frozen data.
"""
