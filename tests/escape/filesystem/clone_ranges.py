# title:   Blocks of files that may not be written are shared, exchanged or moved by the file system's own calls
# source:  ioctl_ficlonerange(2), ioctl_fideduperange(2), EXT4_IOC_MOVE_EXT, EXT4_IOC_SWAP_BOOT; copy_file_range(2)
# expect:  EOPNOTSUPP EPERM EACCES EROFS ENOTTY EINVAL ENOENT EBADF EXDEV ETXTBSY EISDIR ENOSYS
# fires:   change
# control: host
#
# They take two descriptors, of which one is a file of the host's that is open for reading. On the bare host DIR/target is
# open for writing.
from lib import *
import fcntl


def mine():
    fd = os.open("mine", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"changed\n" * 1024)
    return fd


source = mine()
if not INSIDE:
    target = os.open(DIR + "/target", os.O_RDWR)
    attempt("copy a range", lambda: os.copy_file_range(source, target, 8, 0, 0))
else:
    for path in ["/usr/bin/env", "/escape/lib.py", "/etc/passwd", "/usr", "/dev/null"]:
        try:
            target = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue
        attempt("copy a range", lambda: os.copy_file_range(source, target, 8, 0, 0))
        attempt("clone", lambda: fcntl.ioctl(target, 0x40049409, source))
        attempt("clone a range", lambda: fcntl.ioctl(target, 0x4020940D, struct.pack("qQQQ", source, 0, 0, 0)))

        def dedupe():
            told = fcntl.ioctl(source, 0xC0189436, struct.pack("QQHHI", 0, 4096, 1, 0, 0) + struct.pack("qQQiI", target, 0, 0, 0, 0))
            done, status = struct.unpack_from("Qi", told, 24 + 16)
            return forbidden(-status if status < 0 else errno.EINVAL, done)

        attempt("share equal blocks", dedupe)
        attempt("move blocks", lambda: fcntl.ioctl(target, 0xC028660F, struct.pack("IIQQQQ", 0, source, 0, 0, 1, 0)))
        attempt("swap with the boot loader's", lambda: fcntl.ioctl(target, 0x6611))
        attempt("a hole", lambda: call(285, target, 3, 0, 4096))
        attempt("splice", lambda: os.sendfile(target, source, 0, 8))
