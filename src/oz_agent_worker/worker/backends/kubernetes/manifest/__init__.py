"""Pure: from a task spec to the Job, byte for byte."""
