"""Makes versions: picks rows, trains, exports, judges, publishes, and removes what nobody needs."""
