"""Jobs in processes of their own: `process` runs one, `errors` turns its end into an error, `child` is its inside."""
