"""The feedback log: impressions and outcomes, acknowledged once they are on disk, in two Delta tables."""
