"""A real Kubernetes control plane for the tests and the benchmark: no part of it is a mock.

``provision`` finds or builds the binaries, ``api_tier`` runs them, ``kubelet`` plays
the node. ``external`` is any other cluster behind the same interface.
"""
