/* The client of a tunnel, cheap enough that the tunnel is what is measured.
 *
 *   load open PORT CONNS COUNT   COUNT times: connect, 64 bytes there and back, close
 *   load echo PORT CONNS COUNT   COUNT times 64 bytes there and back, over CONNS connections
 *   load down PORT CONNS 0       read each connection to its end
 *   load up   PORT CONNS MIB     send MIB on each, end, and read the size that comes back
 *   load hold PORT CONNS 0       64 bytes there and back on each connection, "held", wait for a
 *                                line on standard input, then 64 bytes again on each
 *
 * The last line it prints is  ok=N failed=N bytes=N seconds=S p50=MICROSECONDS
 */
#include "common.h"

enum { MESSAGE = 64, PATIENCE = 10000 };
enum mode { OPEN, ECHO, DOWN, UP, HOLD, MODES };

struct conn {
    int fd, connected;
    size_t got;
    long long left;
    double since;
    char answer[32];
};

static const char *const names[] = { "open", "echo", "down", "up", "hold" };
static char buffer[1 << 20];
static enum mode mode;
static int port;
static long count, begun, ok, failed, live, measured;
static long long bytes;
static float *latency;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void begin(struct conn *c)
{
    *c = (struct conn){ .fd = dial(port), .since = now(), .left = mode == UP ? count << 20 : 0 };
    begun++;
    if (c->fd < 0) {
        failed++;
        return;
    }
    live++;
    watch(EPOLL_CTL_ADD, c->fd, EPOLLOUT, c);
}

static void over(struct conn *c, int good)
{
    *(good ? &ok : &failed) += 1;
    close(c->fd);
    c->fd = -1;
    live--;
    if (mode == OPEN && begun < count) begin(c);
}

static void say(struct conn *c)
{
    c->got = 0;
    if (put(c->fd, buffer, MESSAGE) != MESSAGE) over(c, 0);
}

static void echoed(struct conn *c, ssize_t got)
{
    bytes += got;
    if ((c->got += got) < MESSAGE) return;
    double time = now();
    latency[measured++] = (time - c->since) * 1e6;
    c->since = time;
    if (mode == OPEN || (mode == ECHO && begun >= count)) {
        over(c, 1);
        return;
    }
    if (mode == HOLD) return;
    ok++;
    begun++;
    say(c);
}

static void pour(struct conn *c)
{
    size_t size = c->left < (long long)sizeof buffer ? (size_t)c->left : sizeof buffer;
    ssize_t sent = put(c->fd, buffer, size);
    if (sent < 0) {
        over(c, 0);
        return;
    }
    bytes += sent;
    if (c->left -= sent) return;
    shutdown(c->fd, SHUT_WR);
    watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
}

static void ready(struct conn *c)
{
    if (!c->connected) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            over(c, 0);
            return;
        }
        c->connected = 1;
        if (mode != UP) watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
        if (mode != UP && mode != DOWN) say(c);
        return;
    }
    if (c->left) {
        pour(c);
        return;
    }
    ssize_t got = recv(c->fd, buffer, sizeof buffer, mode == DOWN ? MSG_TRUNC : 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0 && mode == DOWN) bytes += got;
    else if (got > 0 && mode == UP && c->got + got < sizeof c->answer) {
        memcpy(c->answer + c->got, buffer, got);
        c->got += got;
    } else if (got > 0 && mode != UP) echoed(c, got);
    else over(c, !got && (mode == DOWN || (mode == UP && atoll(c->answer) == count << 20)));
}

/* Serve connections until so many of them are left, or so many latencies measured. */
static void run(long leave, long until)
{
    struct epoll_event events[EVENTS];
    while (live > leave && measured + failed < until) {
        int found = epoll_wait(poller, events, EVENTS, PATIENCE);
        if (!found) {
            failed += live;
            live = 0;
        }
        for (int i = 0; i < found; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->fd >= 0) ready(c);
        }
    }
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    while (mode < MODES && strcmp(argv[1], names[mode])) mode++;
    if (mode == MODES) return 2;
    port = atoi(argv[2]);
    count = atol(argv[4]);
    int size = atoi(argv[3]);
    struct conn *all = calloc(size, sizeof *all);
    latency = malloc(sizeof *latency * (count + 2 * size + 1));
    poller = epoll_create1(0);
    double start = now();
    for (int i = 0; i < size; i++) {
        begin(&all[i]);
        if (mode == HOLD) run(0, i - 31); /* no flood: as many as wait at once in a short queue */
    }
    if (mode == HOLD) {
        run(0, size);
        printf("held\n");
        fflush(stdout);
        getchar();
        long before = measured;
        for (int i = 0; i < size; i++)
            if (all[i].fd >= 0) say(&all[i]);
        run(0, before + size);
        ok = measured - before;
    } else {
        run(0, count + 2L * size);
    }
    qsort(latency, measured, sizeof *latency, ascending);
    printf("ok=%ld failed=%ld bytes=%lld seconds=%.4f p50=%.1f\n", ok, failed, bytes, now() - start,
           measured ? latency[measured / 2] : 0);
    return 0;
}
