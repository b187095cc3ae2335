"""What codes are tested on: one file a family of tasks."""
