# title:   Access lists, flags and other attributes are set on files of the host's
# source:  acl(5), xattr(7), ioctl_iflags(2), file_setattr(2) (Linux 6.17)
# expect:  EOPNOTSUPP EPERM EACCES EROFS ENOTTY ENOSYS EINVAL ENOENT EBADF EISDIR
# fires:   change
# control: host
from lib import *
import fcntl


def acl(uid):
    """That the owner and `uid` may do all."""
    nobody = 0xFFFFFFFF
    entries = [(0x01, 7, nobody), (0x02, 7, uid), (0x04, 7, nobody), (0x10, 7, nobody), (0x20, 7, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def flags(path, value):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, 0x40086602, struct.pack("l", value))
    finally:
        os.close(fd)


if not INSIDE:
    attempt("a list", lambda: os.setxattr(DIR + "/target", "system.posix_acl_access", acl(65534)))
    attempt("a mode", lambda: os.chmod(DIR + "/target", 0o777))
else:
    files = ["/usr", "/usr/bin/env", "/etc/passwd", "/etc/alternatives", "/dev/null", "/escape/lib.py", "/escape", "/", "/proc/version",
             DIR + "/target"]
    for path in files:
        attempt("a list", lambda: os.setxattr(path, "system.posix_acl_access", acl(1000)))
        attempt("a list for what is made there", lambda: os.setxattr(path, "system.posix_acl_default", acl(1000)))
        attempt("an attribute", lambda: os.setxattr(path, "user.mark", b"y"))
        attempt("a capability", lambda: os.setxattr(path, "security.capability", b"\1\0\0\2" + b"\xff" * 16))
        attempt("no list", lambda: os.removexattr(path, "system.posix_acl_access"))
        for value in (0x10, 0x20, 0x40):
            attempt("flags", lambda: flags(path, value))
        attempt("flags by path", lambda: call(469, -100, c(path.encode()), ctypes.byref((ctypes.c_uint64 * 4)(0x10)), 32, 0))
        attempt("a mode", lambda: os.chmod(path, 0o777, follow_symlinks=True))
        attempt("a time", lambda: os.utime(path, (1, 1)))
        attempt("a lock for one alone", lambda: fcntl.fcntl(os.open(path, os.O_RDWR | os.O_NONBLOCK), 1024, 1))
