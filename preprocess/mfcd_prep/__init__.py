"""From a folder of videos to a store: sample, encode, extract, verify, info."""
