#!/bin/sh
# Runs a command with TASKLOOM_TEST_CGROUP, a cgroup of version 2 that has the controllers memory and pids:
#
#   sudo scripts/delegated_cgroup.sh .venv/bin/python -m pytest tests/component/executor/test_guardian.py
#
# Where the host's controllers are those of version 1, that needs a kernel of one's own. User Mode Linux is one (Debian:
# user-mode-linux), with the host's files, read-only:
#
#   scripts/delegated_cgroup.sh --uml .venv/bin/python -m pytest -p no:cacheprovider tests/component/executor/test_guardian.py
set -eu

if [ "${1:-}" = --uml ]; then
    shift
    words=""
    for word in "$@"; do words="$words '$word'"; done
    told=$(mktemp -d)
    trap 'rm -rf "$told"' EXIT
    cat >"$told/init" <<END
#!/bin/sh
export PATH='$PATH' HOME=/run PYTHONPATH='${PYTHONPATH:-}' PYTHONDONTWRITEBYTECODE=1 TMPDIR=/run
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t tmpfs run /run
ip link set lo up 2>/dev/null
cd '$PWD'
'$PWD/scripts/delegated_cgroup.sh' $words
echo "the command ended with \$?"
echo o >/proc/sysrq-trigger
sleep 60
END
    chmod +x "$told/init"
    "${UML:-linux.uml}" mem=1500M root=/dev/root rootfstype=hostfs rootflags=/ ro "init=$told/init" \
        quiet con=null con0=null,fd:1 | tee "$told/log"
    grep -q "the command ended with 0" "$told/log"
    exit
fi

mounted=$(mktemp -d)
mount -t cgroup2 cgroup2 "$mounted"
cgroup="$mounted/delegated-$$"
trap 'rmdir "$cgroup"; umount "$mounted"; rmdir "$mounted"' EXIT
echo "+memory +pids" >"$mounted/cgroup.subtree_control"
mkdir "$cgroup"
TASKLOOM_TEST_CGROUP=$cgroup "$@"
