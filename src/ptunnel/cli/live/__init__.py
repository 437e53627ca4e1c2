"""`ptunnel top`: the figures of the running service on a screen, live.

top             keys, requests, time
frames          its picture, as a pure function
screen          its terminal
"""
