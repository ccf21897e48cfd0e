"""The gateway: an application asks it for items and tells it what users did; it asks the model server and keeps the log."""
