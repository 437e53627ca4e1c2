/* Loaded before libc into the ptunnel of a soak: a clock that can be set, a resolver that can hang.
 *
 * $PTUNNEL_SOAK is a file of two 64-bit numbers: nanoseconds by which the wall clock is off, and
 * whether names that begin with "slow" hang. A name that ends with ".test" is 127.0.0.1.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SECOND = 1000000000, HANGS = 80 /* tenths of a second */ };

static const volatile int64_t *shared(void)
{
    static const volatile int64_t *state;
    static const int64_t nothing[2];
    if (state) return state;
    const char *path = getenv("PTUNNEL_SOAK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof nothing, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    return state = map == MAP_FAILED ? nothing : map;
}

static int wall(struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(CLOCK_REALTIME, t);
    int64_t now = (int64_t)t->tv_sec * SECOND + t->tv_nsec + shared()[0];
    t->tv_sec = now / SECOND;
    t->tv_nsec = now % SECOND;
    return code;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    static int (*real)(clockid_t, struct timespec *);
    if (id == CLOCK_REALTIME) return wall(t);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    return real(id, t);
}

int gettimeofday(struct timeval *t, void *zone)
{
    struct timespec now;
    (void)zone;
    wall(&now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t)
{
    struct timespec now;
    wall(&now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real)
        real = (int (*)(const char *, const char *, const struct addrinfo *,
                        struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
    size_t length = host ? strlen(host) : 0;
    if (length < 5 || strcmp(host + length - 5, ".test")) return real(host, service, hints, found);
    if (!strncmp(host, "slow", 4)) {
        for (int i = 0; i < HANGS && shared()[1]; i++) usleep(100000);
        if (shared()[1]) return EAI_AGAIN;
    }
    return real("127.0.0.1", service, hints, found);
}
