"""The status address: a small HTTP server that shows the service and steers it (docs/status.md).

server      its port: bound, moved, closed
site        its connections, how many, and their requests
channel     one connection, with its limits in time and size
access      which requests are served, and which may steer
tokens      the token file
api         paths and methods
queries     the parameters of a list of sessions
documents   figures as JSON
streams     server-sent events
pages       the files of the page, in the folder page
metrics     /metrics
answers     what a request is, and what it is answered
"""
