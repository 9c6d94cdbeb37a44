"""Metrics and traces through OpenTelemetry, imported only where an exporter is chosen.

events → TaskMetrics, TaskSpans → instruments, spans → exporters
A sampler reads once a second what no event reports: the outbox, the watches, the event loop's lag.
"""
