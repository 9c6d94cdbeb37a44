"""A Docker engine of the tests' own, and base images that no registry has to give."""
