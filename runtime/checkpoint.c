/* checkpoint.c: what a checkpoint is made of, and the directory a run keeps them in.
 *
 *   ckpt/step-000500/model.safetensors   parameters and states of modules
 *   ckpt/step-000500/state.safetensors   moments, counters; as metadata seed, overridden
 *                                        hyperparameters and the loader's place
 *   ckpt/.tmp-step-000500-PID            one being written, or left by a killed process
 *
 * A step-… directory is whole or does not exist: it comes by a rename and goes by one.
 */
#define _DEFAULT_SOURCE
#include "runtime/rt.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const mp_part_names[] = {"", "model", "state", "all"};
const char *const mp_part_files[] = {"", "model.safetensors", "state.safetensors"};

int mp_part_of(const mp_state_desc *s) {
  int32_t kind = s->kind;
  if (s->flags & (MP_STATE_UNSAVED | MP_STATE_PRIVATE)) return 0;
  if (s->flags & MP_STATE_PHASED) return MP_PART_STATE;
  if (kind == MP_PARAM || kind == MP_STATE) return MP_PART_MODEL;
  return kind == MP_MOMENT || kind == MP_COUNTER ? MP_PART_STATE : 0;
}

int mp_no_memory(mp_error *err) { return mp_fail(err, MP_E_MEMORY, "no memory for a checkpoint"); }

/* Only what a checkpoint consists of: a mistyped path must not delete anything else. */
void mp_checkpoint_remove(const char *dir) {
  for (int part = MP_PART_MODEL; part <= MP_PART_STATE; part++) {
    char *path = mp_path(dir, mp_part_files[part]);
    if (path) unlink(path);
    free(path);
  }
  rmdir(dir);
}

bool mp_checkpoint_only(const char *dir) {
  DIR *d = opendir(dir);
  bool only = true;
  for (struct dirent *e; d && (e = readdir(d));)
    only &= !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            !strcmp(e->d_name, mp_part_files[MP_PART_MODEL]) ||
            !strcmp(e->d_name, mp_part_files[MP_PART_STATE]);
  if (d) closedir(d);
  return only;
}

bool mp_checkpoint_whole(const char *dir) {
  bool whole = true;
  for (int part = MP_PART_MODEL; part <= MP_PART_STATE && whole; part++) {
    char *path = mp_path(dir, mp_part_files[part]);
    whole = path && mp_is_file(path);
    free(path);
  }
  return whole;
}

char *mp_checkpoint_temp(const char *parent, const char *path) {
  size_t n = strlen(path);
  while (n && path[n - 1] == '/') n--;
  size_t start = n;
  while (start && path[start - 1] != '/') start--;
  mp_text name = {0};
  mp_text_add(&name, ".tmp-%.*s-%ld", (int)(n - start), path + start, (long)getpid());
  char *temp = name.failed ? NULL : mp_path(parent, name.at);
  mp_text_free(&name);
  return temp;
}

char *mp_checkpoint_path(const char *dir, int64_t step) {
  char name[40];
  snprintf(name, sizeof name, "step-%06lld", (long long)step);
  return mp_path(dir, name);
}

static int64_t step_of(const char *name) {
  if (strncmp(name, "step-", 5)) return -1;
  size_t digits = strspn(name + 5, "0123456789");
  return digits < 6 || digits > 18 || name[5 + digits] ? -1 : strtoll(name + 5, NULL, 10);
}

/* The newest whole one below `below`; -1: none. */
static int64_t newest_below(const char *dir, int64_t below) {
  DIR *d = opendir(dir);
  int64_t best = -1;
  for (struct dirent *e; d && (e = readdir(d));) {
    int64_t step = step_of(e->d_name);
    if (step <= best || step >= below) continue;
    char *path = mp_checkpoint_path(dir, step);
    if (path && mp_checkpoint_whole(path)) best = step;
    free(path);
  }
  if (d) closedir(d);
  return best;
}

int64_t mp_checkpoint_newest(const char *dir) { return newest_below(dir, INT64_MAX); }

/* Under a temporary name first: killed half-way, no step-… directory is incomplete. */
static void retire(const char *dir, int64_t step) {
  char *path = mp_checkpoint_path(dir, step), *temp = path ? mp_checkpoint_temp(dir, path) : NULL;
  if (temp && !rename(path, temp)) mp_checkpoint_remove(temp);
  free(path);
  free(temp);
}

void mp_checkpoint_prune(const char *dir, int keep) {
  int64_t step = INT64_MAX;
  for (int i = 0; i < keep && step >= 0; i++) step = newest_below(dir, step);
  while (step > 0 && (step = newest_below(dir, step)) >= 0) retire(dir, step);
}

void mp_checkpoint_clean(const char *dir) {
  DIR *d = opendir(dir);
  for (struct dirent *e; d && (e = readdir(d));) {
    char *path = strncmp(e->d_name, ".tmp-", 5) ? NULL : mp_path(dir, e->d_name);
    if (path) mp_checkpoint_remove(path);
    free(path);
  }
  if (d) closedir(d);
}
