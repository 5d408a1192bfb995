"""The operations models are built of, each with a plain torch form."""
