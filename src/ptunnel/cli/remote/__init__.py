"""The commands that ask the running service over its status address: status, sessions, reload.

    place           which address, and the token for it
    client          one request, with limits in time and size
    document        the answer, read without trust
    tables          rows that fit a width; how text is cut and painted
    quantities      bytes and durations in words
    remoteoptions   the options
    status          `ptunnel status`
    sessions        `ptunnel sessions`
    reload          `ptunnel reload`

They need no reactor, so that they start fast. All that comes from the service is printed escaped.
"""
