"""The demo: a remote user's whole road, played with pyvo and plain HTTP against the service on real pixels."""
