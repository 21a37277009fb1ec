"""The router: it runs inside Triton, picks versions, answers clients, and writes the traffic log."""
