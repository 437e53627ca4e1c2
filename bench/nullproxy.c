/* A CONNECT proxy that is also each target, so that little is spent behind the tunnel.
 *
 *   nullproxy PORT
 *
 * Every CONNECT gets a 200 at once. The host's name says what the target does:
 *   echo      sends back what comes
 *   source:N  sends N MiB and ends
 *   sink      drops what comes, and at its end answers with its size, in decimal
 */
#include "common.h"

enum kind { NEW, ECHO, SOURCE, SINK };

struct conn {
    int fd;
    enum kind kind;
    long long count; /* bytes that are still to be sent (source), or that have come (sink) */
    size_t got;
    char head[1500];
};

static char buffer[1 << 20], zeros[1 << 20];

/* Each of these returns whether the connection goes on. */

static int pour(struct conn *c)
{
    while (c->count) {
        size_t size = c->count < (long long)sizeof zeros ? (size_t)c->count : sizeof zeros;
        ssize_t sent = put(c->fd, zeros, size);
        if (sent <= 0) {
            watch(EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
            return !sent;
        }
        c->count -= sent;
    }
    shutdown(c->fd, SHUT_WR);
    watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
    return 1;
}

static int greet(struct conn *c)
{
    static const char yes[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    ssize_t got = recv(c->fd, c->head + c->got, sizeof c->head - 1 - c->got, 0);
    if (got <= 0) return 0;
    c->got += got;
    char *host = c->head + strlen("CONNECT ");
    if (!strstr(c->head, "\r\n\r\n")) return 1;
    if (strncmp(c->head, "CONNECT ", 8) || put(c->fd, yes, sizeof yes - 1) < 0) return 0;
    c->kind = !strncmp(host, "source:", 7) ? SOURCE : !strncmp(host, "sink:", 5) ? SINK : ECHO;
    if (c->kind != SOURCE) return 1;
    c->count = atoll(host + 7) << 20;
    return pour(c);
}

static int serve(struct conn *c)
{
    if (c->kind == NEW) return greet(c);
    if (c->kind == SOURCE && c->count) return pour(c);
    ssize_t got = recv(c->fd, buffer, sizeof buffer, c->kind == ECHO ? 0 : MSG_TRUNC);
    if (got < 0) return errno == EAGAIN;
    if (c->kind == ECHO) return got && put(c->fd, buffer, got) == got;
    if (got) c->count += got;
    else if (c->kind == SINK) put(c->fd, buffer, sprintf(buffer, "%lld", c->count));
    return got > 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    poller = epoll_create1(0);
    int listening = listen_on(atoi(argv[1]));
    for (;;) {
        struct epoll_event ready[EVENTS];
        int count = epoll_wait(poller, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct conn *c = ready[i].data.ptr;
            if (c) {
                if (serve(c)) continue;
                close(c->fd);
                free(c);
                continue;
            }
            for (int fd; (fd = accept_on(listening)) >= 0;) {
                c = calloc(1, sizeof *c);
                c->fd = fd;
                watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
            }
        }
    }
}
