"""Several processes that speak HTTP, and one that owns the device."""
