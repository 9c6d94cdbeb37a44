"""What shows that tasks can run: checks, a strict dry run, and a real Job."""
