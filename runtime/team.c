/* team.c: a team of threads that run one job together and meet in barriers.
 *
 * The caller of mp_team_run is thread 0; the others were started with the team and wait for work in
 * the same barrier that kernels meet in.  So one counter does everything: a job is two meetings of
 * the team (start, end) with the job's own meetings between them.
 *
 * A meeting: everybody counts himself in; the last one resets the count and moves `meeting` on; the
 * others spin on `meeting` for some microseconds (kernels are that short), then sleep.  The last
 * one wakes sleepers only if there are any.  No wake is lost: a sleeper counts itself before it
 * looks at `meeting` again, the last one moves `meeting` before it looks at the count, all in one
 * total order (seq_cst).
 */
#define _POSIX_C_SOURCE 200809L
#include "runtime/rt.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { SPINS = 4000 };

typedef struct Worker {
  mp_team *team;
  pthread_t thread;
  int32_t tid;
} Worker;

struct mp_team {
  _Alignas(64) atomic_uint meeting;
  _Alignas(64) atomic_int arrived;
  _Alignas(64) atomic_int sleepers;
  atomic_int threads; /* who meet; changes only if not all of them could be started */
  int started;        /* workers whose thread exists */
  int spins;
  bool over;
  mp_job_fn *job;
  void *user;
  pthread_mutex_t lock;
  pthread_cond_t moved;
  Worker workers[]; /* of tid 1 … threads - 1 */
};

static void sleep_until_moved(mp_team *t, unsigned meeting) {
  pthread_mutex_lock(&t->lock);
  atomic_fetch_add(&t->sleepers, 1);
  while (atomic_load(&t->meeting) == meeting) pthread_cond_wait(&t->moved, &t->lock);
  atomic_fetch_sub(&t->sleepers, 1);
  pthread_mutex_unlock(&t->lock);
}

static void move_on(mp_team *t, unsigned meeting) {
  atomic_store_explicit(&t->arrived, 0, memory_order_relaxed); /* published by the next line */
  atomic_store(&t->meeting, meeting + 1);
  if (!atomic_load(&t->sleepers)) return;
  pthread_mutex_lock(&t->lock);
  pthread_cond_broadcast(&t->moved);
  pthread_mutex_unlock(&t->lock);
}

void mp_barrier(mp_team *t) {
  int threads = atomic_load(&t->threads);
  if (threads == 1) return;
  unsigned meeting = atomic_load(&t->meeting);
  if (atomic_fetch_add(&t->arrived, 1) + 1 == threads) {
    move_on(t, meeting);
    return;
  }
  for (int i = 0; i < t->spins; i++) {
    if (atomic_load_explicit(&t->meeting, memory_order_acquire) != meeting) return;
    mp_cpu_relax();
  }
  sleep_until_moved(t, meeting);
}

static void *work(void *arg) {
  Worker *w = arg;
  mp_team *t = w->team;
  (void)mp_float_enter(); /* for good: the thread is ours */
  for (mp_barrier(t); !t->over; mp_barrier(t)) {
    t->job(t->user, w->tid, t->threads);
    mp_barrier(t);
  }
  return NULL;
}

void mp_team_run(mp_team *t, mp_job_fn *job, void *user) {
  t->job = job;
  t->user = user;
  uint64_t mode = mp_float_enter();
  mp_barrier(t);
  job(user, 0, t->threads);
  mp_barrier(t);
  mp_float_leave(mode);
}

int mp_team_size(const mp_team *t) { return t->threads; }

/* Workers take no signals: they belong to the program's own threads. */
static bool start_workers(mp_team *t) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  while (t->started < t->threads - 1) {
    Worker *w = &t->workers[t->started];
    *w = (Worker){.team = t, .tid = t->started + 1};
    if (pthread_create(&w->thread, NULL, work, w)) break;
    t->started++;
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return t->started == t->threads - 1;
}

mp_team *mp_team_new(const mp_memory *m, int threads, mp_error *err) {
  mp_team *t = mp_alloc(m, sizeof *t + (size_t)threads * sizeof(Worker));
  if (!t) return mp_fail(err, MP_E_MEMORY, "no memory for a team of %d threads", threads), NULL;
  t->threads = threads;
  t->spins = threads <= mp_cpu_count() ? SPINS : 0; /* more threads than cores: make room at once */
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->moved, NULL);
  if (start_workers(t)) return t;
  mp_fail(err, MP_E_MEMORY, "could start only %d of %d threads", t->started + 1, threads);
  mp_team_free(m, t);
  return NULL;
}

void mp_team_free(const mp_memory *m, mp_team *t) {
  if (!t) return;
  t->over = true;
  atomic_store(&t->threads, t->started + 1); /* fewer than asked for, if starting failed */
  mp_barrier(t);
  for (int i = 0; i < t->started; i++) pthread_join(t->workers[i].thread, NULL);
  pthread_mutex_destroy(&t->lock);
  pthread_cond_destroy(&t->moved);
  mp_free(m, t);
}
