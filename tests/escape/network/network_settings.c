/* title:   The network is set up anew: interfaces made, brought up, moved to another namespace, routes and filters
 * source:  netlink(7), rtnetlink(7), netdevice(7); CVE-2022-1015, CVE-2023-32233 (nf_tables reached through a user namespace)
 * expect:  EACCES EPERM ENODEV EAFNOSUPPORT EPROTONOSUPPORT ENOTTY EINVAL EBADF EOPNOTSUPP
 * fires:   call
 * control: namespaces
 */
#include "lib.h"
#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>

static struct {
    struct nlmsghdr head;
    char body[1024];
} message;
static void start(int type, int flags, const void *body, int n)
{
    memset(&message, 0, sizeof message);
    message.head = (struct nlmsghdr){.nlmsg_len = NLMSG_LENGTH(n), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags};
    memcpy(NLMSG_DATA(&message.head), body, n);
}
static struct rtattr *add(int type, const void *data, int n)
{
    struct rtattr *a = (void *)((char *)&message + NLMSG_ALIGN(message.head.nlmsg_len));
    a->rta_type = type;
    a->rta_len = RTA_LENGTH(n);
    if (n)
        memcpy(RTA_DATA(a), data, n);
    message.head.nlmsg_len = NLMSG_ALIGN(message.head.nlmsg_len) + RTA_ALIGN(a->rta_len);
    return a;
}
static void end(struct rtattr *a) { a->rta_len = (char *)&message + message.head.nlmsg_len - (char *)a; }
static long ask(int protocol)
{
    int s = socket(AF_NETLINK, SOCK_RAW, protocol);
    if (s < 0 || send(s, &message, message.head.nlmsg_len, 0) < 0)
        return -1;
    struct nlmsghdr *h = (void *)buf;
    long n = recv(s, buf, sizeof buf, 0);
    close(s);
    if (n < (long)sizeof *h)
        return -1;
    if (h->nlmsg_type == NLMSG_ERROR && ((struct nlmsgerr *)NLMSG_DATA(h))->error) {
        errno = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
        return -1;
    }
    return 0;
}

int run(void)
{
    struct ifinfomsg up = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP}, none = {0};
    start(RTM_NEWLINK, 0, &up, sizeof up);
    attempt("loopback up by netlink", ask(NETLINK_ROUTE));
    struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_prefixlen = 8, .ifa_index = 1};
    uint32_t ip = htonl(0x7f000009);
    start(RTM_NEWADDR, NLM_F_CREATE, &address, sizeof address);
    add(IFA_LOCAL, &ip, 4);
    attempt("address", ask(NETLINK_ROUTE));

    start(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof none);
    add(IFLA_IFNAME, "escape0", 8);
    struct rtattr *info = add(IFLA_LINKINFO, NULL, 0);
    add(IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = add(IFLA_INFO_DATA, NULL, 0), *peer = add(VETH_INFO_PEER, &none, sizeof none);
    /* Its other end goes straight into the namespace of another process. */
    pid_t pid = inside() ? 1 : getpid();
    add(IFLA_NET_NS_PID, &pid, sizeof pid);
    end(peer);
    end(data);
    end(info);
    attempt("a pair with one end in another's namespace", ask(NETLINK_ROUTE));
    start(RTM_NEWLINK, 0, &none, sizeof none);
    add(IFLA_IFNAME, inside() ? "lo" : "escape0", 8);
    add(IFLA_NET_NS_PID, &pid, sizeof pid);
    attempt("an interface moved", ask(NETLINK_ROUTE));

    int s = socket(AF_UNIX, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    attempt("loopback up by a Unix socket", ioctl(s, SIOCSIFFLAGS, &lo));
    attempt("loopback up by a network socket", other < 0 ? -1 : ioctl(other, SIOCSIFFLAGS, &lo));
    attempt("bridge by a Unix socket", ioctl(s, SIOCBRADDBR, "escape1"));
    attempt("its namespace by a Unix socket", ioctl(s, 0x894c /* SIOCGSKNS */));

    const struct { const char *name; int protocol; } others[] = {
        {"netfilter", 12}, {"audit", 9}, {"socket diagnosis", 4}, {"device events", 15}, {"generic", 16}, {"crypto", 21},
    };
    for (unsigned n = 0; n < sizeof others / sizeof *others; n++)
        attempt(others[n].name, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, others[n].protocol));
    return 0;
}
