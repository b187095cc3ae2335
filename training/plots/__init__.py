"""Pictures of training and of codebooks. Nothing here touches the global state of matplotlib."""
