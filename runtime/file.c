/* file.c: writing files that are either whole or not there, reading them, directories.
 *
 * "Whole" needs an fsync of the file before the rename that makes it visible, and one of the
 * directory after it: without the second a crash may forget the rename.  Every write is checked,
 * and so is close: NFS reports a full disk there.
 */
#define _GNU_SOURCE /* renameat2 */
#include "runtime/rt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_CHUNK = 1 << 30 };

static int io_error(mp_error *err, const char *what, const char *path, int number) {
  return mp_fail(err, MP_E_IO, "cannot %s '%s': %s", what, path, strerror(number));
}

bool mp_is_dir(const char *path) {
  struct stat st;
  return !stat(path, &st) && S_ISDIR(st.st_mode);
}

bool mp_is_file(const char *path) {
  struct stat st;
  return !stat(path, &st) && S_ISREG(st.st_mode);
}

char *mp_path(const char *dir, const char *name) {
  mp_text t = {0};
  size_t n = strlen(dir);
  mp_text_add(&t, n && dir[n - 1] == '/' ? "%s%s" : "%s/%s", dir, name);
  if (t.failed) mp_text_free(&t);
  return t.at;
}

const char *mp_path_base(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

char *mp_parent(const char *path) {
  size_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/') n--;
  while (n && path[n - 1] != '/') n--;
  while (n > 1 && path[n - 1] == '/') n--;
  mp_text t = {0};
  if (n) mp_text_add(&t, "%.*s", (int)n, path);
  else mp_text_add(&t, ".");
  if (t.failed) mp_text_free(&t);
  return t.at;
}

int mp_sync_dir(const char *path, mp_error *err) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return io_error(err, "open", path, errno);
  int failed = fsync(fd) ? errno : 0;
  close(fd);
  return failed ? io_error(err, "sync", path, failed) : MP_OK;
}

int mp_make_dirs(const char *path, mp_error *err) {
  if (mp_is_dir(path)) return MP_OK;
  char *parent = mp_parent(path);
  if (!parent) return mp_fail(err, MP_E_MEMORY, "no memory for a path");
  int status = strcmp(parent, path) ? mp_make_dirs(parent, err) : MP_OK;
  if (!status && mkdir(path, 0777) && errno != EEXIST)
    status = io_error(err, "make the directory", path, errno);
  if (!status) status = mp_sync_dir(parent, err);
  free(parent);
  return status;
}

/* ---- writing ---- */

typedef struct Sink {
  int fd, error;
} Sink;

static int write_all(void *user, const void *bytes, size_t n) {
  Sink *s = user;
  for (const char *p = bytes; n;) {
    ssize_t done = write(s->fd, p, n < MAX_CHUNK ? n : MAX_CHUNK);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) {
      s->error = done ? errno : EIO;
      return -1;
    }
    p += done;
    n -= (size_t)done;
  }
  return 0;
}

int mp_write_synced(const char *path, mp_fill_fn *fill, void *user, mp_error *err) {
  Sink s = {open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666), 0};
  if (s.fd < 0) return io_error(err, "create", path, errno);
  int status = fill(user, write_all, &s, err);
  if (!status && fsync(s.fd)) s.error = errno;
  if (close(s.fd) && !s.error) s.error = errno;
  return s.error ? io_error(err, "write", path, s.error) : status;
}

/* Exchanging is atomic; a file system that cannot gets two renames, the old one moved aside first:
 * a crash between them leaves the older checkpoints. */
static int replace(const char *temp, const char *path) {
#ifdef RENAME_EXCHANGE
  if (!renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_EXCHANGE)) return 0;
  if (errno != EINVAL && errno != ENOSYS) return -1;
#endif
  mp_text old = {0};
  mp_text_add(&old, "%s-old", temp);
  int failed = old.failed || rename(path, old.at) || rename(temp, path) || rename(old.at, temp);
  mp_text_free(&old);
  return failed ? -1 : 0;
}

int mp_swap_in(const char *temp, const char *path, mp_error *err) {
  if (!rename(temp, path)) return MP_OK;
  bool occupied = errno == ENOTEMPTY || errno == EEXIST;
  if (occupied && !replace(temp, path)) return MP_OK;
  return io_error(err, "rename to", path, errno);
}

/* ---- reading ---- */

int mp_reader_open(mp_reader *r, const char *path, mp_error *err) {
  struct stat st;
  *r = (mp_reader){open(path, O_RDONLY | O_CLOEXEC), 0};
  if (r->fd < 0) return io_error(err, "open", path, errno);
  if (!fstat(r->fd, &st) && S_ISREG(st.st_mode)) {
    r->size = (uint64_t)st.st_size;
    return MP_OK;
  }
  mp_reader_close(r);
  return mp_fail(err, MP_E_IO, "'%s' is not a plain file", path);
}

int mp_reader_read(void *reader, void *bytes, size_t n) {
  mp_reader *r = reader;
  for (char *p = bytes; n;) {
    ssize_t got = read(r->fd, p, n < MAX_CHUNK ? n : MAX_CHUNK);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return -1;
    p += got;
    n -= (size_t)got;
  }
  return 0;
}

void mp_reader_close(mp_reader *r) {
  if (r->fd >= 0) close(r->fd);
  r->fd = -1;
}
