"""A plan's filter as libseccomp makes it.

filter.py OUT [OPTIMIZE [all]]: reads a plan (the bundle's `syscallsPlan`) from standard input and writes the filters to OUT,
each as its length in instructions (32 bits, little-endian) and the instructions. OPTIMIZE is libseccomp's: 1 for a list, 2
for a binary tree. `all`: numbers below 1024 that it has no name for get their ENOSYS too; else they get what denied calls get.
Prints the names, and with `all` the numbers, that this libseccomp does not know.

libseccomp has one answer for all that has no rule, and rules of one call that must not overlap. So there are two filters,
of which the kernel takes the stricter answer: the first allows and has `onDenied` for the rest; the second allows all but
what argument rules answer otherwise. Tests are of low halves, as in the plan: masked comparisons of 64 bits.
"""

import ctypes
import json
import os
import struct
import sys
import tempfile

ALLOW, KILL, NOTIFY, LOG, ERRNO = 0x7FFF0000, 0x80000000, 0x7FC00000, 0x7FFC0000, 0x00050000
EPERM, ENOSYS = 1, 38
TOKENS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
BAD_ARCHITECTURE, OPTIMIZE = 2, 8
MASKED_EQUAL = 7
UNKNOWN_NAME = -1

lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)


class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("how", ctypes.c_int), ("mask", ctypes.c_uint64), ("value", ctypes.c_uint64)]


lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_init.argtypes = [ctypes.c_uint32]
lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
lib.seccomp_arch_remove.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
lib.seccomp_arch_native.restype = ctypes.c_uint32
lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
lib.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)]
lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
lib.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
lib.seccomp_syscall_resolve_num_arch.argtypes = [ctypes.c_uint32, ctypes.c_int]
lib.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p


def must(answer):
    if answer < 0:
        raise OSError(-answer, os.strerror(-answer))


class Filter:
    def __init__(self, token, default, optimize):
        self.default, self.handle = default, lib.seccomp_init(default)
        if token != lib.seccomp_arch_native():
            must(lib.seccomp_arch_add(self.handle, token))
            must(lib.seccomp_arch_remove(self.handle, lib.seccomp_arch_native()))
        must(lib.seccomp_attr_set(self.handle, BAD_ARCHITECTURE, KILL))
        must(lib.seccomp_attr_set(self.handle, OPTIMIZE, optimize))

    def rule(self, number, answer, index=None, mask=0, value=0):
        # A rule that says what is said anyway is refused.
        if answer != self.default:
            test = [] if index is None else [Comparison(index, MASKED_EQUAL, mask, value)]
            must(lib.seccomp_rule_add_array(self.handle, answer, number, len(test), (Comparison * 1)(*test)))

    def program(self):
        with tempfile.TemporaryFile() as file:
            must(lib.seccomp_export_bpf(self.handle, file.fileno()))
            file.seek(0)
            code = file.read()
        return struct.pack("<I", len(code) // 8) + code


def all_but(values, bits, mask=0, value=0):
    """Masks and values of tests, one of which matches where none of `values` is in `bits`."""
    if not values:
        yield mask, value
    elif bits:
        bit = bits[0]
        for half in 0, bit:
            yield from all_but([v for v in values if v & bit == half], bits[1:], mask | bit, value | half)


def main():
    plan = json.load(sys.stdin)
    out, optimize, every = sys.argv[1], int(sys.argv[2]), "all" in sys.argv[3:]
    token = TOKENS[plan["arch"]]
    denied = {"errno": ERRNO | EPERM, "kill": KILL, "log": LOG}[plan["onDenied"]]
    first, second = Filter(token, denied, optimize), Filter(token, ALLOW, optimize)
    unknown = []

    def number(name):
        # Rules are given by the native number, or by libseccomp's own where the native architecture has no such call.
        if lib.seccomp_syscall_resolve_name_arch(token, name.encode()) < 0:
            unknown.append(name)
            return None
        return lib.seccomp_syscall_resolve_name(name.encode())

    for name in plan["allowed"]:
        nr = number(name)
        if nr is not None:
            first.rule(nr, ALLOW)
    for rule in plan["conditional"]:
        nr = number(rule["syscall"])
        if nr is None:
            continue
        errno = rule["otherwiseErrno"]
        otherwise = denied if errno is None else NOTIFY if rule["told"] else ERRNO | errno
        if rule["deny"]:
            assert not rule["allow"]
            first.rule(nr, ALLOW)
            for test in rule["deny"]:
                second.rule(nr, otherwise, **test)
        elif not rule["allow"]:
            first.rule(nr, otherwise)
        elif otherwise == denied:
            for test in rule["allow"]:
                first.rule(nr, ALLOW, **test)
        else:
            # The tests of a rule are of one argument under one mask.
            [(index, mask)] = {(test["index"], test["mask"]) for test in rule["allow"]}
            bits = [1 << bit for bit in reversed(range(32)) if mask >> bit & 1]
            first.rule(nr, ALLOW)
            for mask, value in all_but([test["value"] for test in rule["allow"]], bits):
                second.rule(nr, otherwise, index, mask, value)
    if every:
        for nr in range(1024):
            if lib.seccomp_syscall_resolve_num_arch(token, nr) is None:
                unknown.append(str(nr))
                # A number without a name can be given for the native architecture alone.
                if token == lib.seccomp_arch_native():
                    first.rule(nr, ERRNO | ENOSYS)
    with open(out, "wb") as file:
        file.write(first.program() + second.program())
    print(*unknown)


main()
