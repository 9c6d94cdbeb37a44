"""The database: tables, and the operations on them.

Operations are plain functions of a Connection; ``database.Database`` runs them, reads
beside one another and writes one after another.
"""
