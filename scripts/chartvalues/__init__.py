"""Writes what follows from a chart's values.schema.yaml: values, their schema and defaults, the reference.

``python -m scripts.chartvalues`` (``make docs``) writes the files of all charts anew.
"""
