"""The parts of a real node: its sandbox, its configuration, its network, its images."""
