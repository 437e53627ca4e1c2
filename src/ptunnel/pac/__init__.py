"""PAC files: which proxy a script of others (Proxy Auto-Configuration) wants for a target.

    answers    what FindProxyForURL has returned, as proxies
    sandbox    the process that runs the file: a program of its own
    engine     asks that process, and looks up the names that it asks for
    fetch      the file, by HTTPS
    source     the file read again and again; the last good one answers

The extra `pac` has the JavaScript engine.
"""
