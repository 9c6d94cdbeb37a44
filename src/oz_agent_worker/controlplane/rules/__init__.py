"""Pure decisions: ownership, leases, scheduling and states of runs."""
