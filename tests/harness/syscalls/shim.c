/* Counts the system calls of this process on files in one folder and on its connections. At one
 * of them it kills the process, or makes the call fail. It is loaded with LD_PRELOAD.
 *
 * Locks of `fcntl` do not count: they end with the process, and SQLite takes a lock that cannot be
 * given up for one of somebody else. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT, KILL_BEFORE, KILL_AFTER, KILL_IN_THE_MIDDLE, FAIL, FAIL_FROM_HERE };
enum { OTHER, A_FILE, A_CONNECTION };
enum { TAKES_ROOM = 1, WRITES = 2, CANNOT_FAIL = 4 };
#define MOST_FILES 4096

static char folder[PATH_MAX];
static long at, counted;
static int action, error, log_to = -1;
static unsigned char kinds[MOST_FILES];

/* Begin to count. The process forks before, so nothing is counted in its parent. */
void shim_arm(const char *folder_, long at_, int action_, int error_, int log_) {
    strncpy(folder, folder_, sizeof folder - 1);
    at = at_, action = action_, error = error_, log_to = log_;
}

static int is_inside(const char *path) {
    return folder[0] && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int kind_of(int fd) {
    return fd >= 0 && fd < MOST_FILES ? kinds[fd] : OTHER;
}

static void set_kind(int fd, int kind) {
    if (fd >= 0 && fd < MOST_FILES) kinds[fd] = kind;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Count a call. Return 1 if it must fail, 2 if the process must die in the middle of it. */
static int before(const char *name, int fd, const char *path, int flags, const char *data) {
    char link[64], target[PATH_MAX] = "", line[PATH_MAX + 128];
    long number = ++counted;
    if (log_to >= 0) {
        if (!path && fd >= 0) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            ssize_t size = readlink(link, target, sizeof target - 1);
            if (size > 0) target[size] = 0;
            path = target;
        }
        /* The first page of a database has its `user_version`, big-endian, at byte 60. */
        int mark = data && memcmp(data, "SQLite format 3", 16) == 0 ? data[63] : 0;
        int size =
            snprintf(line, sizeof line, "%s %d %d %s\n", name, flags, mark, path ? path : "");
        static ssize_t (*next)(int, const void *, size_t);
        if (!next) next = dlsym(RTLD_NEXT, "write");
        next(log_to, line, size);
    }
    if (number == at && action == KILL_BEFORE) die();
    if (number == at && action == KILL_IN_THE_MIDDLE && (flags & WRITES)) return 2;
    int fails = (number == at && action == FAIL) ||
                (number >= at && action == FAIL_FROM_HERE && (flags & TAKES_ROOM));
    if (fails && !(flags & CANNOT_FAIL)) return errno = error, 1;
    return 0;
}

static void after(void) {
    if (counted == at && action == KILL_AFTER) die();
}

#define NEXT(name, type, ...) \
    static type (*next)(__VA_ARGS__); \
    if (!next) next = dlsym(RTLD_NEXT, #name)

#define ON_FILE(name, type, flags, fd, call, ...) \
    type name(__VA_ARGS__) { \
        NEXT(name, type, __VA_ARGS__); \
        if (kind_of(fd) != A_FILE) return next call; \
        if (before(#name, fd, NULL, flags, NULL)) return (type)-1; \
        type result = next call; \
        after(); \
        return result; \
    }

#define ON_PATH(name, flags, path, call, ...) \
    int name(__VA_ARGS__) { \
        NEXT(name, int, __VA_ARGS__); \
        if (!is_inside(path)) return next call; \
        if (before(#name, -1, path, flags, NULL)) return -1; \
        int result = next call; \
        after(); \
        return result; \
    }

/* A call that writes may end after the first half of its bytes. A full disk still lets it replace
 * bytes. */
#define WRITE(name, half, call, end, ...) \
    ssize_t name(__VA_ARGS__) { \
        NEXT(name, ssize_t, __VA_ARGS__); \
        if (kind_of(fd) != A_FILE) return next call; \
        struct stat status; \
        int grows = fstat(fd, &status) == 0 && (off64_t)(end) > status.st_size; \
        int fate = before(#name, fd, NULL, (grows ? TAKES_ROOM : 0) | WRITES, size < 64 ? NULL : from); \
        if (fate == 1) return -1; \
        if (fate == 2) { \
            next half; \
            die(); \
        } \
        ssize_t result = next call; \
        after(); \
        return result; \
    }

/* Only a call that may create the file takes room. */
#define OPEN(name, call, ...) \
    int name(__VA_ARGS__, ...) { \
        static int (*next)(__VA_ARGS__, ...); \
        if (!next) next = dlsym(RTLD_NEXT, #name); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        int counts = is_inside(path); \
        if (counts && before(#name, -1, path, flags & O_CREAT ? TAKES_ROOM : 0, NULL)) return -1; \
        int fd = next call; \
        set_kind(fd, counts ? A_FILE : OTHER); \
        if (counts) after(); \
        return fd; \
    }

OPEN(open, (path, flags, mode), const char *path, int flags)
OPEN(open64, (path, flags, mode), const char *path, int flags)
OPEN(openat, (folder_fd, path, flags, mode), int folder_fd, const char *path, int flags)
OPEN(openat64, (folder_fd, path, flags, mode), int folder_fd, const char *path, int flags)
WRITE(write, (fd, from, size / 2), (fd, from, size), LONG_MAX, int fd, const void *from, size_t size)
WRITE(pwrite, (fd, from, size / 2, where), (fd, from, size, where), where + size, int fd,
      const void *from, size_t size, off_t where)
WRITE(pwrite64, (fd, from, size / 2, where), (fd, from, size, where), where + size, int fd,
      const void *from, size_t size, off64_t where)
ON_FILE(read, ssize_t, 0, fd, (fd, to, size), int fd, void *to, size_t size)
ON_FILE(pread, ssize_t, 0, fd, (fd, to, size, where), int fd, void *to, size_t size, off_t where)
ON_FILE(pread64, ssize_t, 0, fd, (fd, to, size, where), int fd, void *to, size_t size,
        off64_t where)
ON_FILE(fsync, int, 0, fd, (fd), int fd)
ON_FILE(fdatasync, int, 0, fd, (fd), int fd)
ON_FILE(ftruncate, int, 0, fd, (fd, size), int fd, off_t size)
ON_FILE(ftruncate64, int, 0, fd, (fd, size), int fd, off64_t size)
ON_FILE(fchmod, int, 0, fd, (fd, mode), int fd, mode_t mode)
ON_FILE(flock, int, 0, fd, (fd, how), int fd, int how)
ON_PATH(unlink, 0, path, (path), const char *path)
ON_PATH(chmod, 0, path, (path, mode), const char *path, mode_t mode)
ON_PATH(rename, TAKES_ROOM, from, (from, to), const char *from, const char *to)

#define MAP(name, off) \
    void *name(void *where, size_t size, int protection, int flags, int fd, off offset) { \
        NEXT(name, void *, void *, size_t, int, int, int, off); \
        if (kind_of(fd) != A_FILE) return next(where, size, protection, flags, fd, offset); \
        if (before("mmap", fd, NULL, 0, NULL)) return MAP_FAILED; \
        void *result = next(where, size, protection, flags, fd, offset); \
        after(); \
        return result; \
    }

MAP(mmap, off_t)
MAP(mmap64, off64_t)

int close(int fd) {
    NEXT(close, int, int);
    set_kind(fd, OTHER);
    return next(fd);
}

int connect(int fd, const struct sockaddr *to, socklen_t size) {
    NEXT(connect, int, int, const struct sockaddr *, socklen_t);
    if (folder[0] && to->sa_family == AF_INET) set_kind(fd, A_CONNECTION);
    return next(fd, to, size);
}

/* Requests and responses are places to die at only: their failures have tests of their own. */
ssize_t send(int fd, const void *from, size_t size, int flags) {
    NEXT(send, ssize_t, int, const void *, size_t, int);
    if (kind_of(fd) != A_CONNECTION) return next(fd, from, size, flags);
    before("send", fd, NULL, CANNOT_FAIL, NULL);
    ssize_t result = next(fd, from, size, flags);
    after();
    return result;
}

/* How often a reader tries before bytes arrive is chance, so only a call that has got some counts. */
ssize_t recv(int fd, void *to, size_t size, int flags) {
    NEXT(recv, ssize_t, int, void *, size_t, int);
    ssize_t result = next(fd, to, size, flags);
    if (kind_of(fd) == A_CONNECTION && result > 0) {
        before("recv", fd, NULL, CANNOT_FAIL, NULL);
        after();
    }
    return result;
}
