/* What yardstick, nullproxy and load share: sockets on loopback and one epoll. Linux only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256 };

static int poller;

static void watch(int operation, int fd, unsigned events, void *owner)
{
    struct epoll_event event = { events, { .ptr = owner } };
    epoll_ctl(poller, operation, fd, &event);
}

static void undelayed(int fd)
{
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){ AF_INET, htons(port), { htonl(INADDR_LOOPBACK) }, { 0 } };
}

static inline int listen_on(int port)
{
    struct sockaddr_in here = loopback(port);
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (void *)&here, sizeof here) || listen(fd, 4096)) {
        perror("listen");
        exit(1);
    }
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, NULL);
    return fd;
}

static inline int accept_on(int listening)
{
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
    if (fd >= 0) undelayed(fd);
    return fd;
}

/* A socket that is on its way to `port`; -1 where it cannot be. */
static inline int dial(int port)
{
    struct sockaddr_in there = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    undelayed(fd);
    if (!connect(fd, (void *)&there, sizeof there) || errno == EINPROGRESS) return fd;
    close(fd);
    return -1;
}

/* As send(2), but what cannot be sent now is 0 bytes. */
static inline ssize_t put(int fd, const char *bytes, size_t size)
{
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}
