"""Every test of this folder trains on fewer images."""

from helpers.fewer_shapes import fewer_shapes

__all__ = ["fewer_shapes"]
