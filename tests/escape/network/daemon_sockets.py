"""
title:   Daemons are asked where they usually listen: Docker, D-Bus, systemd, X11, Wayland, agents, databases
source:  CVE-2020-15257, CVE-2021-41091; docker(1): /run/docker.sock is root; ssh-agent(1), dbus-daemon(1), X(7)
expect:  ECONNREFUSED
fires:   connect
control: host
runs:    outside

The ground's listeners stand for them: the caller's environment names them as it would the real ones, and the program inside tries
all of the usual places too.
"""
from lib import *

ENV = {
    "SSH_AUTH_SOCK": DIR + "/listen.sock",
    "DOCKER_HOST": f"unix://{DIR}/listen.sock",
    "CONTAINER_HOST": f"unix://{DIR}/listen.sock",
    "DBUS_SESSION_BUS_ADDRESS": f"unix:path={DIR}/listen.sock;unix:abstract={ARGS['abstract']}",
    "DBUS_SYSTEM_BUS_ADDRESS": f"unix:abstract={ARGS['abstract']}",
    "WAYLAND_DISPLAY": DIR + "/listen.sock",
    "NOTIFY_SOCKET": "@" + ARGS["abstract"],
    "LISTEN_FDS": "5",
    "GPG_AGENT_INFO": DIR + "/listen.sock:0:1",
    "XDG_RUNTIME_DIR": DIR,
    "DISPLAY": f"127.0.0.1:{int(ARGS['tcp']) - 6000}",
    "HTTP_PROXY": f"http://127.0.0.1:{ARGS['tcp']}",
}
CODE = r"""
import glob, os, re, socket
places = {"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/notify", "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout", "/dev/log", "/run/systemd/userdb/io.systemd.DynamicUser", "/run/systemd/resolve/io.systemd.Resolve",
    "/run/udev/control", "/run/lvm/lvmpolld.socket", "/run/libvirt/libvirt-sock", "/run/snapd.socket", "/run/cups/cups.sock", "/run/nscd/socket",
    "/run/avahi-daemon/socket", "/run/pcscd/pcscd.comm", "/run/acpid.socket", "/run/postgresql/.s.PGSQL.5432", "/var/run/postgresql/.s.PGSQL.5432",
    "/run/mysqld/mysqld.sock", "/tmp/.X11-unix/X0", "/tmp/.X11-unix/X1", "\0/tmp/.X11-unix/X0", "\0/tmp/.X11-unix/X1", "\0/tmp/.ICE-unix/1",
    "/tmp/.ICE-unix/1", "/run/user/0/bus", "/run/user/1000/bus", "/run/user/1000/wayland-0", "/run/user/1000/gnupg/S.gpg-agent",
    "/run/user/1000/podman/podman.sock", "/run/user/1000/pulse/native", "/run/user/1000/pipewire-0", "/run/secrets/kubernetes.io", "/run/guest-services"}
for pattern in ("/tmp/ssh-*/agent.*", "/tmp/tmux-*/*", "/tmp/.X11-unix/*", "/run/user/*/*", "/run/*.sock", "/run/*/*.sock", "/var/run/screen/*/*", "/tmp/vscode-ipc-*.sock"):
    places.update(glob.glob(pattern))
for value in os.environ.values():
    for path in re.findall(r"(/[^;:,=]+)", value): places.add(path)
    for name in re.findall(r"abstract=([^;,]+)|^@(.+)", value): places.add("\0" + (name[0] or name[1]))
for place in places:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as s:
            s.settimeout(1)
            try: s.connect(place)
            except OSError: continue
            print("REACHED", place.replace("\0", "@"), flush=True)
for key in ("DISPLAY", "HTTP_PROXY"):
    found = re.search(r"(127[.0-9]*):(-?\d+)", os.environ.get(key, ""))
    if found:
        port = int(found[2]) + (6000 if key == "DISPLAY" else 0)
        try: socket.create_connection((found[1], port), 1); print("REACHED", key, flush=True)
        except OSError: pass
"""
out = contained("python3", "-c", CODE, env=os.environ | ENV).stdout.decode("utf-8", "replace")
print(out)
attempt("any of them", lambda: forbidden(errno.ECONNREFUSED, "REACHED" in out))
