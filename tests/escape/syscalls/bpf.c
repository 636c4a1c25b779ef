/* title:   Programs and maps are given to the kernel by bpf
 * source:  CVE-2020-8835, CVE-2021-3490, CVE-2022-23222 (verifier); bpf(2)
 * expect:  EPERM
 * fires:   call
 * control: root
 *
 * The kernel's own setting keeps an ordinary user out here (unprivileged_bpf_disabled=2).
 */
#include "lib.h"
#include <linux/bpf.h>

static long bpf(int command, union bpf_attr *what)
{
    return syscall(SYS_bpf, command, what, sizeof *what);
}
static void load(const char *name, unsigned type)
{
    struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0}, {.code = BPF_JMP | BPF_EXIT}};
    union bpf_attr what = {.prog_type = type, .insns = (uintptr_t)code, .insn_cnt = 2, .license = (uintptr_t) "GPL"};
    attempt(name, bpf(BPF_PROG_LOAD, &what));
}

int run(void)
{
    load("load a socket filter", BPF_PROG_TYPE_SOCKET_FILTER);
    load("load a tracepoint program", BPF_PROG_TYPE_TRACEPOINT);
    load("load a kprobe program", BPF_PROG_TYPE_KPROBE);
    load("load a control group program", BPF_PROG_TYPE_CGROUP_SKB);
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1};
    attempt("make a map", bpf(BPF_MAP_CREATE, &map));
    union bpf_attr next = {0};
    attempt("next map's id", bpf(BPF_MAP_GET_NEXT_ID, &next));
    union bpf_attr program = {0};
    attempt("next program's id", bpf(BPF_PROG_GET_NEXT_ID, &program));
    union bpf_attr by_id = {.prog_id = 1};
    attempt("program 1", bpf(BPF_PROG_GET_FD_BY_ID, &by_id));
    union bpf_attr pinned = {.pathname = (uintptr_t) "/sys/fs/bpf/x"};
    attempt("pinned object", bpf(BPF_OBJ_GET, &pinned));
    union bpf_attr query = {.task_fd_query = {.pid = (unsigned)victim(), .fd = 0}};
    attempt("victim's descriptors", bpf(BPF_TASK_FD_QUERY, &query));
    return 0;
}
