"""Workers at the WebSocket: handshake, the life of a run, what goes wrong."""
