"""What an operator may see: read models of the ledger, used alike by every door."""
