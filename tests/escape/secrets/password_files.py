"""
title:   Hashes of passwords, keys of the host, its tickets and its histories are read
source:  shadow(5), sshd(8), krb5.conf(5); MITRE ATT&CK T1003.008, T1552
expect:  EACCES ENOENT EPERM ENOTDIR
fires:   call
control: host

Each is looked for at its place, and through what leads around a view. On the bare host it is the ground's own secret that is read, by
all of these ways.
"""
from lib import *

FILES = [
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/sudoers", "/etc/security/opasswd", "/etc/machine-id", "/etc/krb5.keytab",
    "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key", "/etc/ssl/private/ssl-cert-snakeoil.key", "/var/backups/shadow.bak",
    "/var/log/auth.log", "/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed", "/root/.bash_history", "/root/.ssh/id_rsa",
    "/root/.ssh/id_ed25519", "/root/.netrc", "/root/.aws/credentials", "/root/.docker/config.json", "/root/.kube/config",
    "/root/.git-credentials", "/root/.config/gcloud/credentials.db", "/run/secrets", "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "/var/spool/cron", "/etc/NetworkManager/system-connections", "/etc/wpa_supplicant/wpa_supplicant.conf", "/boot/grub/grub.cfg",
] if INSIDE else [DIR + "/secret"]
AROUND = ["{}", "/proc/self/root{}", "/proc/1/root{}", "/proc/%d/root{}" % os.getppid(), "/proc/self/cwd/../../../../../../../../../..{}", "/usr/../{}",
          "/proc/self/fd/8/../../../../../../../../../..{}", "/dev/fd/8/../../../../../../../../..{}"]


def content(path):
    if os.path.isdir(path):
        return os.listdir(path)
    return read(path, 4096)


for file in FILES:
    for way in AROUND:
        attempt(way.format(file), lambda: content(way.format(file)))
if INSIDE:
    import pwd
    try:
        import spwd
        attempt("by the C library", lambda: spwd.getspall() or forbidden(errno.ENOENT, False))
    except ImportError:
        pass
    attempt("more users than the sandbox's", lambda: forbidden(errno.ENOENT, [p.pw_name for p in pwd.getpwall() if p.pw_uid not in (0, 1000, 65534)]))
    # What leads to the interpreter's own installation is shown.
    own = os.path.realpath(sys.executable)
    for home in ("/root", "/home", "/var", "/srv", "/run"):
        attempt(f"names in {home}", lambda: forbidden(errno.ENOENT, [n for n in os.listdir(home) if not own.startswith(f"{home}/{n}/")]))
