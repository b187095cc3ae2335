"""Where clips and features come from: generated worlds, feature stores, released archives."""
