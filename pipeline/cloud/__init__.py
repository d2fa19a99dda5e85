"""Object stores (S3, Google Cloud Storage, Azure), through obstore: the extra `cloud`."""
