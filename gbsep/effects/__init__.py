"""Effects and the chains made of them."""
