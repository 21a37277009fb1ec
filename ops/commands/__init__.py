"""What an operator may ask: used alike by the command line, the API and the service."""
