"""Adoption: finds the Jobs that earlier workers left, and decides when this worker follows them."""
