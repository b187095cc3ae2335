"""Features and clips -> checkpoint, and its evaluation."""
