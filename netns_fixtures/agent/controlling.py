"""``controlling.py PROGRAM ...``: run a program whose standard input is its controlling terminal.

The agent starts each program as the leader of a new session, which has none yet. A file to be run, not
imported: nothing of the package is loaded, for a shell should start at once.
"""

import fcntl
import os
import sys
import termios

#: What a shell says about a program that is not there.
_NOT_FOUND = 127

if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]}: {error.strerror}\r\n")
        sys.exit(_NOT_FOUND)
