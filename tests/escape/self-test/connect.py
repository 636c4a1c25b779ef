# title:   Everything that listens is reached
# source:  a test of the runner
# expect:  EPERM
# fires:   connect
# control: host
# stdin:   socket
from lib import *

for name in [f"{DIR}/listen.sock", "\0" + ARGS["abstract"]]:
    attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(name))
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", int(ARGS["tcp"]))) and None)
attempt("udp", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", int(ARGS["udp"]))))
attempt("stdin", lambda: os.write(0, b"x"))
