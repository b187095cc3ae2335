"""The routes, one file per noun: the only place, beside `app.py`, that knows FastAPI."""
