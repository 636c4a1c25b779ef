/* title:   Families that most machines load when somebody asks: AF_ALG, TIPC, CAN, RDS, Bluetooth and others
 * source:  CVE-2010-3904 (RDS), CVE-2021-43267 (TIPC), CVE-2021-32606 (CAN), CVE-2019-8912 (AF_ALG), CVE-2020-12351 (Bluetooth)
 * expect:  EACCES
 * fires:   call
 * control: void: this kernel has none of these families and loads no modules
 *
 * Asking is what loads the module: so it is the asking that must be refused.
 */
#include "lib.h"

int run(void)
{
    static const struct {
        const char *name;
        int family, type, protocol;
    } tries[] = {
        {"AF_ALG", 38, SOCK_SEQPACKET, 0}, {"AF_TIPC", 30, SOCK_SEQPACKET, 0}, {"AF_CAN", 29, SOCK_RAW, 1},
        {"AF_CAN, broadcast manager", 29, SOCK_DGRAM, 2}, {"AF_RDS", 21, SOCK_SEQPACKET, 0},
        {"AF_BLUETOOTH, L2CAP", 31, SOCK_SEQPACKET, 0}, {"AF_BLUETOOTH, HCI", 31, SOCK_RAW, 1},
        {"AF_KEY", 15, SOCK_RAW, 2}, {"AF_SMC", 43, SOCK_STREAM, 0}, {"AF_QIPCRTR", 42, SOCK_DGRAM, 0},
        {"AF_PHONET", 35, SOCK_DGRAM, 0}, {"AF_RXRPC", 33, SOCK_DGRAM, 2}, {"AF_KCM", 41, SOCK_DGRAM, 0},
        {"AF_MCTP", 45, SOCK_DGRAM, 0}, {"AF_X25", 9, SOCK_SEQPACKET, 0}, {"AF_AX25", 3, SOCK_DGRAM, 0},
        {"AF_ATMPVC", 8, SOCK_DGRAM, 0}, {"AF_PPPOX", 24, SOCK_STREAM, 1}, {"AF_LLC", 26, SOCK_STREAM, 0},
        {"AF_IB", 27, SOCK_RAW, 0}, {"AF_NFC", 39, SOCK_RAW, 0}, {"AF_IEEE802154", 36, SOCK_DGRAM, 0},
        {"AF_DECnet", 12, SOCK_STREAM, 0}, {"DCCP", AF_INET, SOCK_DCCP, 33}, {"SCTP", AF_INET, SOCK_STREAM, 132},
        {"L2TP", AF_INET, SOCK_DGRAM, 115},
    };
    for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++)
        attempt(tries[i].name, syscall(SYS_socket, tries[i].family, tries[i].type, tries[i].protocol));
    return 0;
}
