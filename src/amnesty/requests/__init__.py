"""A deletion request, from file to audited result."""
