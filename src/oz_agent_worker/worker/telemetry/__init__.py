"""Metrics and traces through OpenTelemetry, imported only where an exporter is chosen.

notices → TaskMetrics, TaskSpans → instruments, spans → exporters
a sampler reads what nobody tells: the outbox, the watches, the event loop
"""
