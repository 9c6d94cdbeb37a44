"""Mutation of the pure packages: ``python -m tests.mutation``.

A mutant is the source of one module with one small fault in it. The tests of its package
must fail: one that passes shows a promise that no test holds.
"""
