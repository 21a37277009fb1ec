/* A wall clock that runs faster, for processes that are started with this file in LD_PRELOAD.

   PERENNIAL_CLOCK="NS SPEED": until this moment, in nanoseconds since 1970, the clock is the machine's; from then on it
   runs SPEED times as fast. All processes read one clock, because the machine's own tells them where it is. Clocks that
   only measure durations stay as they are, and so do waits: a deadline of the wall clock is as far away as it was.
   Times of files are told by the fast clock too.

   Source: interposition of symbols, ld.so(8); libfaketime does the same for one process or over a semaphore, which a
   killed process may hold for ever. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define S 1000000000LL
#define A_DATE 1000000000LL /* a deadline below it is of a clock that measures durations */

static int64_t begins = INT64_MAX, speed = 1;

__attribute__((constructor)) static void begin(void) {
    const char *told = getenv("PERENNIAL_CLOCK");
    char *rest;
    if (!told) return;
    begins = strtoll(told, &rest, 10);
    speed = strtoll(rest, 0, 10);
}

static int64_t fast(int64_t ns) { return ns < begins ? ns : begins + (ns - begins) * speed; }
static int64_t ns_of(const struct timespec *at) { return at->tv_sec * S + at->tv_nsec; }
static void put(struct timespec *at, int64_t ns) { at->tv_sec = ns / S; at->tv_nsec = ns % S; }

static int machines(clockid_t id, struct timespec *at) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    return next(id, at);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = machines(id, at);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) put(at, fast(ns_of(at)));
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

static const struct timespec *machines_deadline(const struct timespec *at, struct timespec *out) {
    struct timespec now;
    if (!at || at->tv_sec < A_DATE) return at;
    machines(CLOCK_REALTIME, &now);
    int64_t left = ns_of(at) - fast(ns_of(&now));
    put(out, ns_of(&now) + (left > 0 ? left : 0));
    return out;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict at) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec own;
    if (!next) next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    return next(cond, mutex, machines_deadline(at, &own));
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict at) {
    static int (*next)(pthread_mutex_t *, const struct timespec *);
    struct timespec own;
    if (!next) next = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    return next(mutex, machines_deadline(at, &own));
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict at) {
    static int (*next)(sem_t *, const struct timespec *);
    struct timespec own;
    if (!next) next = dlsym(RTLD_NEXT, "sem_timedwait");
    return next(sem, machines_deadline(at, &own));
}

#define TIMES(found) \
    put(&(found)->st_mtim, fast(ns_of(&(found)->st_mtim))), put(&(found)->st_ctim, fast(ns_of(&(found)->st_ctim)))

int stat(const char *restrict path, struct stat *restrict found) {
    int failed = syscall(SYS_newfstatat, AT_FDCWD, path, found, 0);
    if (!failed) TIMES(found);
    return failed;
}

int lstat(const char *restrict path, struct stat *restrict found) {
    int failed = syscall(SYS_newfstatat, AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW);
    if (!failed) TIMES(found);
    return failed;
}

int fstat(int file, struct stat *found) {
    int failed = syscall(SYS_fstat, file, found);
    if (!failed) TIMES(found);
    return failed;
}

int fstatat(int folder, const char *restrict path, struct stat *restrict found, int flags) {
    int failed = syscall(SYS_newfstatat, folder, path, found, flags);
    if (!failed) TIMES(found);
    return failed;
}

/* on x86-64 and AArch64 the records are the same */
int stat64(const char *restrict p, struct stat64 *restrict f) { return stat(p, (struct stat *)f); }
int lstat64(const char *restrict p, struct stat64 *restrict f) { return lstat(p, (struct stat *)f); }
int fstat64(int file, struct stat64 *f) { return fstat(file, (struct stat *)f); }
int fstatat64(int d, const char *restrict p, struct stat64 *restrict f, int flags) {
    return fstatat(d, p, (struct stat *)f, flags);
}
