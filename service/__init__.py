"""Bundle -> HTTP: what a client sees of Tessera."""
