"""Serving images, built and found by digest. Implements `ports.Images`."""
