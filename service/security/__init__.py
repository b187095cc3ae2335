"""What stands between strangers and the engine: keys, what each may ask for, how often; and URLs."""
