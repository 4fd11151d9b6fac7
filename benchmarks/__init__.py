"""Measurements beside peers and floors."""
