"""Jobs in processes of their own: `process` runs one, `module` and `child` are its inside, `errors` tells its end."""
