"""The database: tables, and the operations on them.

Operations are plain functions of a Connection. ``database.Database`` runs reads in parallel and
writes one after the other.
"""
