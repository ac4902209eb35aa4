"""How fast and how large: measurements that are run by hand. Not part of the package."""
