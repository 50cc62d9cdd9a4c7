"""HiPS: properties, tiles, cutouts."""
