# title:   Symbolic links in the project lead out of it
# source:  symlink(7), path_resolution(7); CVE-2018-15664, where a supervisor followed them
# expect:  ENOENT EACCES EPERM EROFS ENOTDIR EFAIL GOT
# fires:   read
# control: host
# harmless: yes
. "$(dirname "$0")/lib.sh"

# Inside they lead to what the view has of that name, which may be a directory of the sandbox's own /tmp: a file can be made
# there. That a supervisor follows none is another case.
ln -s "$dir/secret" direct
ln -s ../secret upwards
ln -s ../../../../../../../../../../../../../../../.."$dir/secret" far
ln -s direct second
ln -s "$dir" whole
ln -s /proc/self/cwd/../secret by-proc
ln -s /proc/1/root by-init
for name in direct upwards far second whole/secret by-proc; do
    attempt "read $name" cat "$name"
done
if [ "$where" = inside ]; then
    attempt "read by-init" cat "by-init$dir/secret"
    for name in direct upwards far; do
        attempt "write $name" sh -c "echo changed >>$name"
        attempt "copy onto $name" cp /etc/hostname "$name/"
    done
    # Made afresh where they lead to, if only the directory is there.
    attempt "write beside" sh -c 'echo changed >whole/new'
    attempt "write in targets" sh -c 'echo changed >../targets/new'
    attempt "remove the target" rm "$dir/target"
fi
