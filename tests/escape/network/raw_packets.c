/* title:   Packets are made by hand: raw, link-layer, tunnel and device sockets
 * source:  raw(7), packet(7), tuntap; CVE-2020-14386, CVE-2020-14416 (what packet sockets led to)
 * expect:  EACCES EPERM EAFNOSUPPORT EPROTONOSUPPORT ESOCKTNOSUPPORT ENOENT ENODEV EINVAL
 * fires:   connect
 * control: root
 * control-user: void: the kernel wants CAP_NET_RAW
 *
 * The datagram for the ground's port is built with all its headers.
 */
#include "lib.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

static unsigned char packet[14 + 20 + 8 + 5];
static void build(void)
{
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = 17, .tot_len = htons(33)};
    struct udphdr udp = {.source = htons(9), .dest = htons(atoi(arg("udp"))), .len = htons(13)};
    ip.saddr = ip.daddr = htonl(INADDR_LOOPBACK);
    uint32_t sum = 0;
    for (int n = 0; n < 10; n++)
        sum += ((uint16_t *)&ip)[n];
    sum = (sum & 0xffff) + (sum >> 16);
    ip.check = ~(sum + (sum >> 16));
    packet[12] = 8;
    memcpy(packet + 14, &ip, 20);
    memcpy(packet + 34, &udp, 8);
    memcpy(packet + 42, "hello", 5);
}
static long link_layer(int type, int skip)
{
    int s = socket(AF_PACKET, type, htons(ETH_P_IP));
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = s < 0 ? 0 : if_nametoindex("lo"), .sll_halen = 6};
    return s < 0 ? -1 : sendto(s, packet + skip, sizeof packet - skip, 0, (void *)&to, sizeof to);
}

int run(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = 0, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    build();
    int s = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    attempt("raw, own header", s < 0 ? -1 : sendto(s, packet + 14, 33, 0, (void *)&to, sizeof to));
    s = socket(AF_INET, SOCK_RAW, IPPROTO_UDP);
    attempt("raw UDP", s < 0 ? -1 : sendto(s, packet + 34, 13, 0, (void *)&to, sizeof to));
    s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    attempt("raw ICMP", s < 0 ? -1 : sendto(s, "\10\0\367\377\0\0\0\0", 8, 0, (void *)&to, sizeof to));
    attempt("raw ICMPv6", socket(AF_INET6, SOCK_RAW, 58));
    attempt("link layer", link_layer(SOCK_RAW, 0));
    attempt("link layer without its header", link_layer(SOCK_DGRAM, 14));
    attempt("link layer, the old type", socket(AF_INET, SOCK_PACKET, htons(ETH_P_ALL)));
    attempt("express path", socket(44, SOCK_RAW, 0));
    int tun = open("/dev/net/tun", O_RDWR);
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    attempt("tunnel", tun < 0 ? -1 : ioctl(tun, TUNSETIFF, &ifr));
    if (tun >= 0)
        close(tun);
    return 0;
}
