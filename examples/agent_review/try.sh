#!/usr/bin/env bash
# The whole review, in a copy of a small repository: run, diff, apply. Fails where something is not as the README says.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"

printf 'def greet(name):\n    return f"Helo, {name}!"\n' > greet.py
printf 'Ask before you change the licence.\n' > NOTES.md
printf 'all:\n\tpython3 test_greet.py\n' > Makefile
printf 'TOKEN=not-for-agents\n' > .env
cp "$here/agent.py" .
git init --quiet . && git add greet.py NOTES.md Makefile agent.py
git -c user.name=you -c user.email=you@example.com commit --quiet -m start

echo "== run"
safe-run run --policy "$here/policy.yaml"
grep -q Helo greet.py || { echo "the agent reached the real files"; exit 1; }

echo "== diff"
safe-run diff

echo "== apply, but for what nobody asked for"
safe-run apply last greet.py test_greet.py --yes
grep -q Hello greet.py || { echo "the fix was not applied"; exit 1; }
grep -q python3 Makefile || { echo "the Makefile was applied without being named"; exit 1; }
test -f NOTES.md || { echo "the notes were deleted without being named"; exit 1; }
python3 test_greet.py

echo "== evidence"
safe-run report verify
