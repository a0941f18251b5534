"""Heralds: what carries that workers live, and their events, over each broker."""
