"""The masking experiment: choose voxels by a map, overwrite them, predict again; its controls and statistics."""

from lib.voxels import overwrite_voxels, select_voxels

__all__ = ["overwrite_voxels", "select_voxels"]
