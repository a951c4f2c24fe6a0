"""Labs that stay up: a process of the user holds each, and others reach it through a socket.

``places`` knows which labs are up, ``holder`` is the process, ``visitor`` the other end of its socket.
"""
