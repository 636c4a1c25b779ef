"""
title:   Keys, tokens and histories in the caller's home are read
source:  ssh(1), aws(1), git-credential-store(1), gpg(1), bash(1) HISTFILE; MITRE ATT&CK T1552.001, T1552.004
expect:  ENOENT
fires:   read
control: host
runs:    outside

The driver makes a home with the ground's canary in all of them, beside the project, and tells it by HOME.
"""
from lib import *

FILES = [
    ".ssh/id_ed25519", ".ssh/config", ".aws/credentials", ".netrc", ".git-credentials", ".gitconfig", ".gnupg/private-keys-v1.d/k.key",
    ".bash_history", ".python_history", ".psql_history", ".docker/config.json", ".kube/config", ".config/gh/hosts.yml",
    ".config/gcloud/application_default_credentials.json", ".npmrc", ".pypirc", ".cargo/credentials.toml", ".m2/settings.xml", ".vault-token",
    ".local/share/keyrings/login.keyring", ".mozilla/firefox/p/logins.json", ".pgpass", ".config/safe-run/keys/default.pem", ".env",
]
CODE = r"""
import os, pwd, sys
homes = {os.environ.get("HOME", "/"), os.path.expanduser("~"), "/root", "/home/user", sys.argv[1], "../home", *[p.pw_dir for p in pwd.getpwall()]}
homes |= {"/proc/self/root" + sys.argv[1], "/proc/1/root" + sys.argv[1], "/proc/%d/cwd/../home" % os.getppid()}
homes |= {"/proc/self/fd/%d/../home" % n for n in range(12)}
for home in homes:
    for name in sys.argv[2:]:
        try:
            data = open(os.path.join(home, name)).read()
            if "CANARY-" in data: print("READ", os.path.join(home, name), data, flush=True)
        except OSError: pass
"""
with Place() as place:
    home = place.top + "/home"
    secret = open(DIR + "/secret").read()
    for name in FILES:
        os.makedirs(os.path.dirname(f"{home}/{name}"), exist_ok=True)
        with open(f"{home}/{name}", "w") as file:
            file.write(f"token = {secret}")
    out = contained("python3", "-c", CODE, home, *FILES, cwd=place.project, env=os.environ | {"HOME": home}).stdout.decode("utf-8", "replace")
    print(out)
    attempt("any of them", lambda: forbidden(errno.ENOENT, "READ " in out))
