/* memory.c: the few large blocks of a context.
 *
 * Blocks are zeroed and aligned to 64 bytes, for aligned vector loads.  Without an allocator of the
 * caller's, large ones are aligned to a huge page and the kernel is asked for huge pages: a weight
 * matrix read with 4 KB pages misses the TLB once a row.
 */
#define _DEFAULT_SOURCE
#include "runtime/rt.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, HUGE_PAGE = 2 << 20 };

static void *default_alloc(void *user, size_t bytes, size_t align) {
  (void)user;
  bool huge = bytes >= 2 * (size_t)HUGE_PAGE;
  void *p = NULL;
  if (posix_memalign(&p, huge ? (size_t)HUGE_PAGE : align, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
  if (huge) (void)madvise(p, bytes, MADV_HUGEPAGE); /* advice: a kernel without them refuses */
#endif
  return p;
}

static void default_free(void *user, void *p) {
  (void)user;
  free(p);
}

mp_memory mp_memory_of(const mp_options *o) {
  if (!o->alloc) return (mp_memory){default_alloc, default_free, NULL};
  return (mp_memory){o->alloc, o->free, o->user};
}

void *mp_alloc(const mp_memory *m, uint64_t bytes) {
  if (bytes > SIZE_MAX - ALIGN) return NULL;
  size_t n = ((size_t)bytes + ALIGN - 1) / ALIGN * ALIGN;
  void *p = m->alloc(m->user, n ? n : ALIGN, ALIGN);
  if (p) memset(p, 0, n);
  return p;
}

void mp_free(const mp_memory *m, void *p) {
  if (p && m->free) m->free(m->user, p);
}
