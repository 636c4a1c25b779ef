# What every case in shell begins with: . "$(dirname "$0")/lib.sh"
for word in "$@"; do
    case $word in
    where=*) where=${word#*=} ;; user=*) user=${word#*=} ;; dir=*) dir=${word#*=} ;; pid=*) pid=${word#*=} ;;
    tcp=*) tcp=${word#*=} ;; udp=*) udp=${word#*=} ;; abstract=*) abstract=${word#*=} ;; shm=*) shm=${word#*=} ;;
    sysv=*) sysv=${word#*=} ;; msg=*) msg=${word#*=} ;; mq=*) mq=${word#*=} ;; key=*) key=${word#*=} ;;
    esac
done

# attempt NAME COMMAND…: tries it, says how it ended and what it printed. The shell knows no errno: a failure is EFAIL, or
# the errno whose words are in the message.
attempt() {
    name=$1
    shift
    if printed=$("$@" 2>&1 </dev/null); then
        result=GOT
    else
        case $printed in
        *"Permission denied"*) result=EACCES ;; *"not permitted"*) result=EPERM ;; *"No such file"*) result=ENOENT ;;
        *"Read-only file system"*) result=EROFS ;; *"not implemented"*) result=ENOSYS ;; *"Bad file descriptor"*) result=EBADF ;;
        *"Not a directory"*) result=ENOTDIR ;; *"Invalid argument"*) result=EINVAL ;; *"No such process"*) result=ESRCH ;;
        *"No such device"*) result=ENXIO ;; *"unreachable"*) result=ENETUNREACH ;; *"refused"*) result=ECONNREFUSED ;;
        *"Bad system call"*) result=SIGSYS ;; *"not found"*) result=ENOENT ;; *"Text file busy"*) result=ETXTBSY ;;
        *"cross-device"*) result=EXDEV ;; *) result=EFAIL ;;
        esac
    fi
    printf 'attempt %s: %s\n' "$name" "$result"
    [ -z "$printed" ] || printf 'found: %s\n' "$printed" | head -c 4000
}

# contained COMMAND…: in a driver (`runs: outside`), the command behind the wall under test; on the bare host as it is.
contained() {
    "${INSIDE:?}" "$@"
}
