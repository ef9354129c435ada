"""Many methods on many requests."""
