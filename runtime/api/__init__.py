"""The HTTP server: a thin layer over an `Engine`.

Each dialect (SGLang's native routes, OpenAI's, Ramify's own) is an adapter that turns a body into
`GenerateRequest`s and deltas into a reply. Routes are listed in `app.py`, the life of a server in
`launch.py`. Nothing here knows of tokens' slots, batches or models.
"""
