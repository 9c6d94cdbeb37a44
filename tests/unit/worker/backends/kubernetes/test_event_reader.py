"""Events are read rarely, one request at a time, and only for those that ask."""
