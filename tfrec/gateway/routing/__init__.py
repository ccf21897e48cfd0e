"""Decides which version answers a request, by which policy, and what answers when that version does not."""
