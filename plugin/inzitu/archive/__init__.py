"""What the host holds: catalogues in files, and the lists that users match with them."""
