/* shim.c: stands between a program and libc (LD_PRELOAD) to make calls fail, or to keep a log of
 * everything that changes files.
 *
 *   FAULT=CALL:N     the N-th CALL of the process fails, counted from 1
 *   FAULT=CALL:N+    so do all behind it
 *   FAULT_HIT=FILE   is created when a call has failed
 *   FAULT_LOG=FILE   records of what was done to files: see `record`
 *
 * CALL: alloc (ENOMEM), open, write, fsync, rename, mkdir, unlink, close (EIO; write ENOSPC), short
 * (a write that takes half), thread (EAGAIN).  What calls the shim itself makes go straight to the
 * kernel, so they are never counted.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef enum Call {
  ALLOC,
  OPEN,
  WRITE,
  SHORT,
  FSYNC,
  RENAME,
  MKDIR,
  UNLINK,
  CLOSE,
  THREAD,
  CALLS
} Call;

static const struct {
  const char *name;
  int error;
} calls[CALLS] = {{"alloc", ENOMEM}, {"open", EIO},     {"write", ENOSPC}, {"short", 0},
                  {"fsync", EIO},    {"rename", EIO},   {"mkdir", EIO},    {"unlink", EIO},
                  {"close", EIO},    {"thread", EAGAIN}};

static atomic_long count[CALLS];
static long due; /* 0: none */
static int which = -1;
static int forever, log_fd = -1;

__attribute__((constructor)) static void start(void) {
  const char *s = getenv("FAULT"), *log = getenv("FAULT_LOG"), *colon = s ? strchr(s, ':') : NULL;
  for (int i = 0; colon && i < CALLS; i++)
    if (strlen(calls[i].name) == (size_t)(colon - s) &&
        !strncmp(s, calls[i].name, strlen(calls[i].name)))
      which = i;
  for (const char *d = colon ? colon + 1 : ""; *d >= '0' && *d <= '9'; d++)
    due = due * 10 + (*d - '0');
  forever = s && strchr(s, '+') != NULL;
  for (int i = 0; i < CALLS; i++) atomic_store(&count[i], 0); /* what the loader did is not ours */
  if (log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
}

static int fails(Call c) {
  long n = atomic_fetch_add(&count[c], 1) + 1;
  if (which != (int)c || !due || n < due || (n > due && !forever)) return 0;
  const char *hit = getenv("FAULT_HIT");
  if (hit) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, hit, O_WRONLY | O_CREAT, 0644);
    if (fd >= 0) syscall(SYS_close, fd);
  }
  errno = calls[c].error;
  return 1;
}

/* One record: a letter, a number, two strings or bytes with their lengths; in native integers. */
static void record(char what, int64_t number, const void *a, uint64_t na, const void *b,
                   uint64_t nb) {
  char head[32] = {what};
  if (log_fd < 0) return;
  memcpy(head + 8, &number, 8);
  memcpy(head + 16, &na, 8);
  memcpy(head + 24, &nb, 8);
  syscall(SYS_write, log_fd, head, sizeof head);
  if (na) syscall(SYS_write, log_fd, a, na);
  if (nb) syscall(SYS_write, log_fd, b, nb);
}

/* ---- memory and threads ---------------------------------------------------------------------- */

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t n) { return fails(ALLOC) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return fails(ALLOC) ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return fails(ALLOC) ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t align, size_t n) {
  return fails(ALLOC) ? NULL : __libc_memalign(align, n);
}
int posix_memalign(void **p, size_t align, size_t n) {
  if (fails(ALLOC)) return ENOMEM;
  *p = __libc_memalign(align, n);
  return *p ? 0 : ENOMEM;
}

typedef int Create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg) {
  if (fails(THREAD)) return EAGAIN;
  Create *real;
  void *symbol = dlsym(RTLD_NEXT, "pthread_create");
  memcpy(&real, &symbol, sizeof real);
  return real(t, a, fn, arg);
}

/* ---- files ----------------------------------------------------------------------------------- */

static int do_open(const char *path, int flags, mode_t mode) {
  if (fails(OPEN)) return -1;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  if (fd >= 0) record('o', fd, path, strlen(path), &flags, sizeof flags);
  return fd;
}

#define WITH_MODE                                                                                  \
  mode_t mode = 0;                                                                                 \
  if (flags & O_CREAT) {                                                                           \
    va_list ap;                                                                                    \
    va_start(ap, flags);                                                                           \
    mode = va_arg(ap, mode_t);                                                                     \
    va_end(ap);                                                                                    \
  }

int open(const char *path, int flags, ...) {
  WITH_MODE
  return do_open(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  WITH_MODE
  return do_open(path, flags, mode);
}

ssize_t write(int fd, const void *p, size_t n) {
  if (fails(WRITE)) return -1;
  if (fails(SHORT)) n /= 2;
  ssize_t done = syscall(SYS_write, fd, p, n);
  if (done > 0 && fd > 2) record('w', fd, p, (uint64_t)done, NULL, 0);
  return done;
}

int fsync(int fd) {
  if (fails(FSYNC)) return -1;
  int r = (int)syscall(SYS_fsync, fd);
  if (!r) record('s', fd, NULL, 0, NULL, 0);
  return r;
}

int close(int fd) {
  int r = (int)syscall(SYS_close, fd);
  if (!r) record('c', fd, NULL, 0, NULL, 0);
  return fails(CLOSE) ? -1 : r;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
  if (fails(RENAME)) return -1;
  int r = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
  if (!r) record(flags ? 'x' : 'r', 0, from, strlen(from), to, strlen(to));
  return r;
}

int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int mkdir(const char *path, mode_t mode) {
  if (fails(MKDIR)) return -1;
  int r = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  if (!r) record('m', 0, path, strlen(path), NULL, 0);
  return r;
}

int unlink(const char *path) {
  if (fails(UNLINK)) return -1;
  int r = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  if (!r) record('u', 0, path, strlen(path), NULL, 0);
  return r;
}

int rmdir(const char *path) {
  if (fails(UNLINK)) return -1;
  int r = (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
  if (!r) record('d', 0, path, strlen(path), NULL, 0);
  return r;
}
