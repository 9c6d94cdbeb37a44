"""The Grafana dashboard of the worker's chart, written from a list of its panels.

``python -m scripts.dashboard`` writes charts/oz-agent-worker/files/dashboard.json.
"""
