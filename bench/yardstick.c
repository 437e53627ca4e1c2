/* A minimal compiled CONNECT tunnel, to which all others are compared.
 *
 *   yardstick LISTEN_PORT PROXY_PORT HOST:PORT
 *
 * It does for a connection what any tunnel must: accept, connect, CONNECT, copy with an epoll and a
 * buffer, half-close, close. It has no timeouts, log, limits, authentication or second proxy.
 */
#include "common.h"

enum { BUFFER = 65536, HEAD = 1024 };

struct side {
    int fd, ended;          /* its peer has ended */
    char *held;             /* what came from it and its other has had no room for */
    size_t offset, length;
    struct side *other;
    struct pair *pair;
};

struct pair {
    struct side client, proxy;
    int joined, closed;
    size_t got;
    char head[HEAD];
    struct pair *next;
};

static struct pair *closed; /* not freed before the turn is over: an event may still name them */

static void interest(struct side *s)
{
    unsigned in = s->held || s->ended ? 0 : EPOLLIN;
    watch(EPOLL_CTL_MOD, s->fd, in | (s->other->held ? EPOLLOUT : 0), s);
}

static void end(struct pair *p)
{
    if (p->closed) return;
    p->closed = 1;
    close(p->client.fd);
    close(p->proxy.fd);
    free(p->client.held);
    free(p->proxy.held);
    p->next = closed;
    closed = p;
}

static void pass_on(struct side *s)
{
    static char buffer[BUFFER];
    ssize_t got = recv(s->fd, buffer, BUFFER, 0);
    if (got < 0) {
        if (errno != EAGAIN) end(s->pair);
    } else if (got == 0) {
        s->ended = 1;
        interest(s);
        shutdown(s->other->fd, SHUT_WR);
        if (s->other->ended && !s->other->held) end(s->pair);
    } else {
        ssize_t sent = put(s->other->fd, buffer, got);
        if (sent < 0) {
            end(s->pair);
        } else if (sent < got) {
            s->offset = 0;
            s->length = got - sent;
            s->held = memcpy(malloc(s->length), buffer + sent, s->length);
            interest(s);
            interest(s->other);
        }
    }
}

static void pass_held(struct side *s)
{
    ssize_t sent = put(s->other->fd, s->held + s->offset, s->length);
    if (sent < 0) {
        end(s->pair);
        return;
    }
    s->offset += sent;
    if (s->length -= sent) return;
    free(s->held);
    s->held = NULL;
    interest(s);
    interest(s->other);
}

static void shake_hands(struct pair *p, unsigned events, const char *request)
{
    int fd = p->proxy.fd;
    if (events & EPOLLOUT) {
        size_t size = strlen(request);
        if (put(fd, request, size) != (ssize_t)size) end(p);
        else watch(EPOLL_CTL_MOD, fd, EPOLLIN, &p->proxy);
        return;
    }
    ssize_t got = recv(fd, p->head + p->got, HEAD - 1 - p->got, 0);
    if (got <= 0) {
        end(p);
        return;
    }
    p->got += got;
    char *body = strstr(p->head, "\r\n\r\n");
    if (!body) return;
    body += 4;
    ssize_t more = p->head + p->got - body;
    if (strncmp(p->head + 8, " 2", 2) || put(p->client.fd, body, more) != more) {
        end(p);
        return;
    }
    p->joined = 1;
    watch(EPOLL_CTL_MOD, p->client.fd, EPOLLIN, &p->client);
}

static void begin(int client, int proxy_port)
{
    int proxy = dial(proxy_port);
    if (proxy < 0) {
        close(client);
        return;
    }
    struct pair *p = calloc(1, sizeof *p);
    p->client = (struct side){ .fd = client, .other = &p->proxy, .pair = p };
    p->proxy = (struct side){ .fd = proxy, .other = &p->client, .pair = p };
    watch(EPOLL_CTL_ADD, client, 0, &p->client);
    watch(EPOLL_CTL_ADD, proxy, EPOLLOUT, &p->proxy);
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    char request[512];
    snprintf(request, sizeof request, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", argv[3], argv[3]);
    poller = epoll_create1(0);
    int listening = listen_on(atoi(argv[1]));
    for (;;) {
        struct epoll_event ready[EVENTS];
        int count = epoll_wait(poller, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct side *s = ready[i].data.ptr;
            unsigned events = ready[i].events;
            if (!s) {
                for (int fd; (fd = accept_on(listening)) >= 0;) begin(fd, atoi(argv[2]));
                continue;
            }
            struct pair *p = s->pair;
            if (p->closed) continue;
            if (!p->joined) {
                if (s == &p->proxy) shake_hands(p, events, request);
                else end(p); /* nothing is waited for, so it is an error or a hang-up */
                continue;
            }
            if (events & EPOLLOUT && s->other->held) pass_held(s->other);
            if (!p->closed && events & EPOLLIN) pass_on(s);
            else if (!(events & (EPOLLIN | EPOLLOUT))) end(p);
        }
        while (closed) {
            struct pair *p = closed;
            closed = p->next;
            free(p);
        }
    }
}
