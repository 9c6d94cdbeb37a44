"""A picture of the dashboard's panels: a real run, a real Prometheus, and the dashboard's own queries.

``make picture`` writes docs/images/dashboard.png. Grafana itself is not part of it:
the panels are drawn as SVG, from the dashboard's JSON and from what Prometheus answered.
"""
