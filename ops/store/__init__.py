"""What lies on disk beside the ledger: the workspace, the buffer, route changes, and what happened lately."""
