/* Loaded before libc (LD_PRELOAD): sees every change that a process makes to the files below FAULT_ROOT,
 * whoever makes it: Python, libav, pyarrow. Its uses, chosen by the environment at each call:
 *
 * FAULT_KILL=<pid>:<n>   that process is killed (SIGKILL) in front of its n-th change, counted from 1. A change
 *                        is a name that is made, moved or removed, and an fsync; with FAULT_WRITES=1 a write too.
 * FAULT_LOG=<file>       every change is appended to the file, one line each, in the order in which they
 *                        happened; at an fsync the content goes to FAULT_SNAPSHOTS/<number>.
 * FAULT_REFUSE=<errno>:<first>:<last>  the changes, writes and fsyncs with these numbers are refused with that error,
 *                        as a disk that is full (a write takes half of what it was given, then nothing), read-only
 *                        or broken does. They are counted in FAULT_COUNTER, over all processes of a program, and
 *                        only while the file FAULT_SWITCH is there, if one is named.
 *
 * FAULT_POINTS=<file>    every call on a file below the root is appended to the file, one line each: what is called
 *                        and the path, relative, without what differs from run to run (process ids, random names).
 * FAULT_POINT=<call>:<n>:<how>:<path>  the n-th such call on that path meets a fault, once: `how` is an errno,
 *                        `short` (a read or write takes half) or `kill`. Counted in FAULT_COUNTER, over all
 *                        processes and threads: other files' calls do not move the number.
 *
 * An fsync is noted and not passed on: a killed process loses nothing that the kernel has, and what a power
 * loss would take is worked out from the log (fault_disk.py).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long changes, counting_pid;
static int log_fd = -1;
static long log_pid;
static __thread int inside;

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static int absolute(int dirfd, const char *path, char *out) {
    char folder[PATH_MAX];
    if (!path) return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return 1;
    }
    if (dirfd == AT_FDCWD) {
        if (!getcwd(folder, sizeof folder)) return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        ssize_t size = readlink(link, folder, sizeof folder - 1);
        if (size < 0) return 0;
        folder[size] = 0;
    }
    if (*path) snprintf(out, PATH_MAX, "%s/%s", folder, path);
    else snprintf(out, PATH_MAX, "%s", folder);
    return 1;
}

static int below_root(const char *path) {
    const char *root = setting("FAULT_ROOT");
    size_t size = root ? strlen(root) : 0;
    return root && !strncmp(path, root, size) && (path[size] == '/' || !path[size]);
}

static int watched(int dirfd, const char *path, char *out) {
    int saved = errno;
    int yes = !inside && setting("FAULT_ROOT") && absolute(dirfd, path, out) && below_root(out);
    errno = saved;
    return yes;
}

/* In front of a change. Takes the lock; `leave` gives it back. */
static void enter(int counts) {
    int saved = errno;
    inside = 1;
    pthread_mutex_lock(&mutex);
    const char *kill_at = setting("FAULT_KILL");
    if (kill_at && counts) {
        long pid = 0, number = 0;
        sscanf(kill_at, "%ld:%ld", &pid, &number);
        if (pid == (long)getpid()) {
            if (counting_pid != pid) changes = 0, counting_pid = pid; /* forked: counted anew */
            if (++changes == number) {
                kill(getpid(), SIGKILL);
                for (;;) pause();
            }
        }
    }
    const char *log = setting("FAULT_LOG");
    if (log && (log_fd < 0 || log_pid != (long)getpid())) {
        /* A description of its own for each process: flock is held by descriptions. */
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        log_pid = getpid();
    }
    if (log && log_fd >= 0) flock(log_fd, LOCK_EX);
    errno = saved;
}

static void leave(void) {
    int saved = errno;
    if (setting("FAULT_LOG") && log_fd >= 0) flock(log_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
    inside = 0;
    errno = saved;
}

static void note(const char *format, ...) {
    if (!setting("FAULT_LOG") || log_fd < 0) return;
    int saved = errno;
    char line[3 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[size++] = '\n';
    if (syscall(SYS_write, log_fd, line, (size_t)size) != size) abort();
    errno = saved;
}

static unsigned long inode(int dirfd, const char *path) {
    struct stat status;
    return fstatat(dirfd, path, &status, AT_SYMLINK_NOFOLLOW) ? 0 : (unsigned long)status.st_ino;
}

static void snapshot(int fd, long number) {
    const char *folder = setting("FAULT_SNAPSHOTS");
    char path[PATH_MAX], source[64], buffer[1 << 16];
    snprintf(path, sizeof path, "%s/%ld", folder, number);
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    int in = (int)syscall(SYS_openat, AT_FDCWD, source, O_RDONLY | O_CLOEXEC, 0);
    int out = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (in < 0 || out < 0) abort();
    ssize_t size;
    while ((size = syscall(SYS_read, in, buffer, sizeof buffer)) > 0)
        if (syscall(SYS_write, out, buffer, (size_t)size) != size) abort();
    syscall(SYS_close, in);
    syscall(SYS_close, out);
}

/* The number of this call, over all processes, or 0 if it does not count. */
static long counted(void) {
    static long *counter;
    const char *path = setting("FAULT_COUNTER"), *lever = setting("FAULT_SWITCH");
    if (!path || (lever && access(lever, F_OK))) return 0;
    if (!counter) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0 || syscall(SYS_ftruncate, fd, sizeof *counter)) abort();
        void *place = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (place == MAP_FAILED) abort();
        counter = place;
        syscall(SYS_close, fd);
    }
    return __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
}

/* A path as it is in every run: `*` for a process id in front of the suffix of temporary files, and for eight hex
 * digits that stand alone. */
static void normal(const char *path, char *out) {
    size_t size = 0, n;
    while (*path && size < PATH_MAX - 2) {
        for (n = 0; strchr("0123456789abcdef", path[n]) && path[n]; n++) {}
        int alone = n == 8 && (size == 0 || strchr("-./_", out[size - 1])) && (!path[n] || strchr("-./_", path[n]));
        size_t digits = strspn(path, "0123456789");
        if (digits && !strncmp(path + digits, ".aiorecord-tmp", 14)) out[size++] = '*', path += digits;
        else if (alone) out[size++] = '*', path += 8;
        else if (n) while (n-- && size < PATH_MAX - 2) out[size++] = *path++;
        else out[size++] = *path++;
    }
    out[size] = 0;
}

/* Whether a call meets its fault: 0, an errno, or -1 for half of what was asked for. */
static int struck(const char *call, int dirfd, const char *path) {
    const char *list = setting("FAULT_POINTS"), *point = setting("FAULT_POINT");
    char full[PATH_MAX], name[PATH_MAX], wanted[32], how[32];
    int saved = errno, offset = 0, result = 0;
    long number = 0;
    if ((!list && !point) || !watched(dirfd, path, full)) return 0;
    size_t root = strlen(setting("FAULT_ROOT"));
    normal(full[root] ? full + root + 1 : ".", name);
    if (list) {
        char line[PATH_MAX + 64];
        int fd = (int)syscall(SYS_openat, AT_FDCWD, list, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        int size = snprintf(line, sizeof line, "%s\t%s\n", call, name);
        if (fd < 0 || syscall(SYS_write, fd, line, (size_t)size) != size) abort();
        syscall(SYS_close, fd);
    }
    if (point && sscanf(point, "%31[^:]:%ld:%31[^:]:%n", wanted, &number, how, &offset) == 3 && offset &&
        !strcmp(wanted, call) && !strcmp(point + offset, name) && counted() == number) {
        if (!strcmp(how, "kill")) {
            kill(getpid(), SIGKILL);
            for (;;) pause();
        }
        result = strcmp(how, "short") ? atoi(how) : -1;
    }
    errno = saved;
    return result;
}

#define STRIKE(call, dirfd, path, failed) \
    { \
        int error = struck(call, dirfd, path); \
        if (error > 0) { errno = error; return failed; } \
    }

/* A file that is read or written, in part if it must be: `n` is what is asked for. */
#define STRIKE_PART(call, fd) \
    { \
        int error = setting("FAULT_POINTS") || setting("FAULT_POINT") ? struck(call, fd, "") : 0; \
        if (error > 0) { errno = error; return -1; } \
        if (error < 0 && n > 1) n /= 2; \
    }

/* Whether the disk refuses this call: then errno says why. `frees`: a removal, which a full disk does not refuse.
 * -1: the first refusal, of which a full disk still takes a part. */
static int refused(int frees) {
    const char *how = setting("FAULT_REFUSE");
    int saved = errno, error = 0;
    long first = 0, last = 0, number;
    if (!how || sscanf(how, "%d:%ld:%ld", &error, &first, &last) != 3) return 0;
    if (frees && error == ENOSPC) return 0;
    number = counted();
    errno = saved;
    if (!number || number < first || number > last) return 0;
    errno = error;
    return number == first ? -1 : 1;
}

/* Called by the program: something it has announced. */
void fault_mark(const char *text) {
    if (!setting("FAULT_LOG")) return;
    enter(0);
    note("K\t%s", text);
    leave();
}

static int opened(const char *name, int dirfd, const char *path, int flags, mode_t mode) {
    NEXT("openat", int, int, const char *, int, ...);
    char full[PATH_MAX];
    (void)name;
    if (!(flags & O_DIRECTORY)) STRIKE(flags & O_CREAT ? "create" : "open", dirfd, path, -1);
    int changes_it = flags & (O_CREAT | O_TRUNC) || (setting("FAULT_REFUSE") && (flags & O_ACCMODE) != O_RDONLY);
    if (!changes_it || (flags & O_TMPFILE) == O_TMPFILE || !watched(dirfd, path, full))
        return real(dirfd, path, flags, mode);
    unsigned long before = inode(AT_FDCWD, full);
    enter(!before);
    before = inode(AT_FDCWD, full);
    /* A full disk lets a file be opened that is there. */
    int fd = refused(before != 0) ? -1 : real(dirfd, path, flags, mode);
    if (fd >= 0) {
        if (!before) note("C\t%s\t%lu", full, inode(AT_FDCWD, full));
        else if (flags & O_TRUNC) note("W\t%lu\t0", before);
    }
    leave();
    return fd;
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); }

int open(const char *path, int flags, ...) { MODE return opened("open", AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened("open64", AT_FDCWD, path, flags, mode); }
int openat(int d, const char *path, int flags, ...) { MODE return opened("openat", d, path, flags, mode); }
int openat64(int d, const char *path, int flags, ...) { MODE return opened("openat64", d, path, flags, mode); }
int creat(const char *path, mode_t mode) {
    return opened("creat", AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static int watched_file(int fd) {
    char path[PATH_MAX];
    struct stat status;
    if (inside || (!setting("FAULT_LOG") && !setting("FAULT_WRITES") && !setting("FAULT_REFUSE"))) return 0;
    int saved = errno;
    int regular = !fstat(fd, &status) && S_ISREG(status.st_mode);
    errno = saved;
    /* Also of a file without a name any more: its last name is below the root then, too. */
    return regular && watched(fd, "", path);
}

static void note_size(int fd) {
    struct stat status;
    int saved = errno;
    if (!fstat(fd, &status)) note("W\t%lu\t%lld", (unsigned long)status.st_ino, (long long)status.st_size);
    errno = saved;
}

#define WRITES(type, name, arguments, in_part, ...) \
    NEXT(name, type, __VA_ARGS__); \
    if (!watched_file(fd)) return real arguments; \
    enter(setting("FAULT_WRITES") != NULL); \
    int refusal = refused(0); \
    type result = refusal < 0 && errno == ENOSPC ? (in_part) : refusal ? (type)-1 : real arguments; \
    note_size(fd); \
    leave(); \
    return result;

/* What a full disk took of a write; if that is nothing, it refused. */
static ssize_t part(ssize_t written) {
    if (written > 0) return written;
    errno = ENOSPC;
    return -1;
}

ssize_t write(int fd, const void *b, size_t n) { STRIKE_PART("write", fd); WRITES(ssize_t, "write", (fd, b, n), part(real(fd, b, n / 2)), int, const void *, size_t) }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) {
    STRIKE_PART("write", fd);
    WRITES(ssize_t, "pwrite", (fd, b, n, o), part(real(fd, b, n / 2, o)), int, const void *, size_t, off_t)
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) {
    STRIKE_PART("write", fd);
    WRITES(ssize_t, "pwrite64", (fd, b, n, o), part(real(fd, b, n / 2, o)), int, const void *, size_t, off64_t)
}
ssize_t writev(int fd, const struct iovec *v, int n) {
    STRIKE_PART("write", fd);
    WRITES(ssize_t, "writev", (fd, v, n), -1, int, const struct iovec *, int)
}
int ftruncate(int fd, off_t n) { STRIKE("truncate", fd, "", -1); WRITES(int, "ftruncate", (fd, n), -1, int, off_t) }
int ftruncate64(int fd, off64_t n) { STRIKE("truncate", fd, "", -1); WRITES(int, "ftruncate64", (fd, n), -1, int, off64_t) }

static int synced(int fd) {
    char path[PATH_MAX];
    struct stat status;
    static long number;
    if (!watched(fd, "", path) || fstat(fd, &status)) return -2;
    int error = struck("fsync", fd, "");
    if (error > 0) {
        /* What was not written is marked as if it were: a second fsync would say that all is well. */
        enter(0);
        note("F\t%lu", (unsigned long)status.st_ino);
        leave();
        errno = error;
        return -1;
    }
    enter(1);
    if (setting("FAULT_LOG")) {
        long own = (long)getpid() * 1000000 + ++number;
        if (S_ISREG(status.st_mode)) snapshot(fd, own);
        note("Y\t%lu\t%ld", (unsigned long)status.st_ino, S_ISREG(status.st_mode) ? own : 0);
    }
    int refusal = refused(0);
    leave();
    return refusal ? -1 : 0;
}

int fsync(int fd) {
    NEXT("fsync", int, int);
    int done = synced(fd);
    return done == -2 ? real(fd) : done;
}
int fdatasync(int fd) {
    NEXT("fdatasync", int, int);
    int done = synced(fd);
    return done == -2 ? real(fd) : done;
}

static int moved(int from, const char *old, int to, const char *new, unsigned int flags) {
    NEXT("renameat2", int, int, const char *, int, const char *, unsigned int);
    char a[PATH_MAX], b[PATH_MAX];
    if (!watched(from, old, a) || !watched(to, new, b)) return real(from, old, to, new, flags);
    STRIKE("rename", to, new, -1);
    enter(1);
    int result = refused(0) ? -1 : real(from, old, to, new, flags);
    if (!result) note("%s\t%s\t%s", flags & RENAME_EXCHANGE ? "X" : "R", a, b);
    leave();
    return result;
}
int rename(const char *old, const char *new) { return moved(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int a, const char *old, int b, const char *new) { return moved(a, old, b, new, 0); }
int renameat2(int a, const char *old, int b, const char *new, unsigned int flags) {
    return moved(a, old, b, new, flags);
}

static int linked(int from, const char *old, int to, const char *new, int flags) {
    NEXT("linkat", int, int, const char *, int, const char *, int);
    char a[PATH_MAX], b[PATH_MAX];
    if (!watched(from, old, a) || !watched(to, new, b)) return real(from, old, to, new, flags);
    STRIKE("link", to, new, -1);
    enter(1);
    int result = refused(0) ? -1 : real(from, old, to, new, flags);
    if (!result) note("L\t%s\t%s", a, b);
    leave();
    return result;
}
int link(const char *old, const char *new) { return linked(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int a, const char *old, int b, const char *new, int flags) { return linked(a, old, b, new, flags); }

static int removed(int dirfd, const char *path, int flags) {
    NEXT("unlinkat", int, int, const char *, int);
    char full[PATH_MAX];
    if (!watched(dirfd, path, full)) return real(dirfd, path, flags);
    STRIKE(flags & AT_REMOVEDIR ? "rmdir" : "unlink", dirfd, path, -1);
    enter(1);
    int result = refused(1) ? -1 : real(dirfd, path, flags);
    if (!result) note("%s\t%s", flags & AT_REMOVEDIR ? "D" : "U", full);
    leave();
    return result;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int dirfd, const char *path, int flags) { return removed(dirfd, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int dirfd, const char *path, mode_t mode) {
    NEXT("mkdirat", int, int, const char *, mode_t);
    char full[PATH_MAX];
    if (!watched(dirfd, path, full)) return real(dirfd, path, mode);
    STRIKE("mkdir", dirfd, path, -1);
    enter(1);
    int result = refused(0) ? -1 : real(dirfd, path, mode);
    if (!result) note("M\t%s\t%lu", full, inode(AT_FDCWD, full));
    leave();
    return result;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int dirfd, const char *path, mode_t mode) { return made(dirfd, path, mode); }

/* What only reads, for FAULT_POINT. */

ssize_t read(int fd, void *b, size_t n) {
    NEXT("read", ssize_t, int, void *, size_t);
    STRIKE_PART("read", fd);
    return real(fd, b, n);
}
ssize_t pread(int fd, void *b, size_t n, off_t o) {
    NEXT("pread", ssize_t, int, void *, size_t, off_t);
    STRIKE_PART("read", fd);
    return real(fd, b, n, o);
}
ssize_t pread64(int fd, void *b, size_t n, off64_t o) {
    NEXT("pread64", ssize_t, int, void *, size_t, off64_t);
    STRIKE_PART("read", fd);
    return real(fd, b, n, o);
}
ssize_t sendfile(int to, int from, off_t *o, size_t n) {
    NEXT("sendfile", ssize_t, int, int, off_t *, size_t);
    STRIKE_PART("write", to);
    return real(to, from, o, n);
}
ssize_t sendfile64(int to, int from, off64_t *o, size_t n) {
    NEXT("sendfile64", ssize_t, int, int, off64_t *, size_t);
    STRIKE_PART("write", to);
    return real(to, from, o, n);
}
DIR *opendir(const char *path) {
    NEXT("opendir", DIR *, const char *);
    STRIKE("list", AT_FDCWD, path, NULL);
    return real(path);
}

/* An error of close(2) is that of an earlier write; the descriptor is gone all the same. */
int close(int fd) {
    NEXT("close", int, int);
    int error = 0;
    if (setting("FAULT_POINTS") || setting("FAULT_POINT")) {
        int saved = errno, flags = fcntl(fd, F_GETFL);
        errno = saved;
        if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY) error = struck("close", fd, "");
    }
    int result = real(fd);
    if (error > 0 && !result) errno = error, result = -1;
    return result;
}

/* Each under the names that glibc gave it over time. */
#define LOOKS(name, place, path, type, arguments, ...) \
    int name(__VA_ARGS__) { \
        NEXT(#name, int, type); \
        STRIKE("stat", place, path, -1); \
        return real arguments; \
    }
#define T(...) __VA_ARGS__
LOOKS(stat, AT_FDCWD, p, T(const char *, struct stat *), (p, s), const char *p, struct stat *s)
LOOKS(stat64, AT_FDCWD, p, T(const char *, struct stat64 *), (p, s), const char *p, struct stat64 *s)
LOOKS(lstat, AT_FDCWD, p, T(const char *, struct stat *), (p, s), const char *p, struct stat *s)
LOOKS(lstat64, AT_FDCWD, p, T(const char *, struct stat64 *), (p, s), const char *p, struct stat64 *s)
LOOKS(__xstat, AT_FDCWD, p, T(int, const char *, struct stat *), (v, p, s), int v, const char *p, struct stat *s)
LOOKS(__xstat64, AT_FDCWD, p, T(int, const char *, struct stat64 *), (v, p, s), int v, const char *p, struct stat64 *s)
LOOKS(__lxstat, AT_FDCWD, p, T(int, const char *, struct stat *), (v, p, s), int v, const char *p, struct stat *s)
LOOKS(__lxstat64, AT_FDCWD, p, T(int, const char *, struct stat64 *), (v, p, s), int v, const char *p, struct stat64 *s)
