"""
title:   A report of its own lies where a reader may look for one
source:  in-toto: evidence in the subject's own hands; CWE-345 (insufficient verification of data authenticity)
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process

It fails with 7 and writes a folder of documents that say 0, copied from a real run of its owner's where it can have one. On the bare
host the reader takes the report of the directory where the program ran.
"""
from lib import *

CODE = r"""
import json, os, shutil, sys
for folder in (".", "last", "runs/last", "report.json.evidence", ".safe-run", "runs/01m0000000000000000000000a"):
    os.makedirs(folder, exist_ok=True)
    if os.path.isdir("real"):
        for name in os.listdir("real"): shutil.copy("real/" + name, folder)
    try: report = json.load(open(folder + "/run_report.json"))
    except OSError: report = {"apiVersion": "safe-run/v1", "kind": "RunReport", "complete": True, "result": {}}
    report["result"] = {"cause": "exit", "exitCode": 0, "limitsHit": [], "signal": None, "status": 0}
    report["command"] = {"argv": ["true"], "env": [], "workdir": "/"}
    json.dump(report, open(folder + "/run_report.json", "w"))
    shutil.copy(folder + "/run_report.json", folder + "/report.json")
    open(folder + "/events.jsonl", "a").write('{"type":"run.end","data":{"status":0}}\n')
sys.exit(7)
"""
with Place() as place:
    if INSIDE:
        place.captured("true")
        real = place.told["dir"]
        subprocess.run(["cp", "-r", real, place.project + "/real"])
        place.captured("python3", "-c", CODE)
        attempt("its own report instead of the run's", lambda: forbidden(errno.EBADMSG, place.recorded("run_report.json")["result"]["status"] != 7 or not place.verified()))
        shown = place.safe_run("show").stdout
        attempt("what is shown of the run", lambda: forbidden(errno.EBADMSG, b"status 7" not in shown))
        done = place.applied(".")
        print(done.stdout.decode("utf-8", "replace")[-300:])
        for path in (".", "last", "report.json", "run_report.json", "runs/last", "report.json.evidence", ".safe-run", "./last/run_report.json"):
            target = f"{place.project}/{path}"
            attempt(f"{path} verifies", lambda: forbidden(errno.EBADMSG, os.path.exists(target) and safe_run("report", "verify", target).returncode == 0))
        done = safe_run("report", "verify", "last", cwd=place.project)
        attempt("`last` is the one of the project", lambda: forbidden(errno.EBADMSG, place.run[:10].encode() not in done.stdout))
    else:
        contained("python3", "-c", CODE, cwd=place.project)
        with open(place.project + "/run_report.json") as file:
            status = json.load(file)["result"]["status"]
        attempt("its own report instead of the run's", lambda: forbidden(errno.EBADMSG, status == 0))
