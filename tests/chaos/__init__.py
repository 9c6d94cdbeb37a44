"""The chaos harness: kills every part at every step of a task's life, and compares three ledgers.

``python -m tests.chaos --help``; docs/reliability.md says what is promised and how this shows it.
"""
