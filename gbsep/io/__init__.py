"""Audio files: what they are, reading and writing them, block by block."""
