"""Opinion as clients see it; its bundles are a text classifier's."""
