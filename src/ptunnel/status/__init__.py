"""The status address: a small HTTP server that shows the service and steers it (docs/status.md).

server      its port: bound, moved, closed
site        its connections, how many, and their requests
channel     one connection, with its limits in time and size
api         paths and methods
access      which requests are served, and which may steer, with which token
documents   figures as JSON
streams     server-sent events
pace        how much of the reactor's time all that may take
pages       the files of the page, in the folder page
metrics     the figures for Prometheus
answers     what a request is, and what it is answered
"""
