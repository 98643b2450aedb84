/* explain.c: what pass `precision` decided and why: --explain-precision, a table or JSON, and
 * --precision-manifest, the policy alone: no bytes, no places, nothing of the machine, so that two
 * of them can be compared with diff; and -Rpass=precision, at the lines themselves. */
#include "tools/tools.h"

#include <string.h>

typedef struct Explain {
  const PrecisionReport *r;
  const Diag *sources;
  Text *out;
} Explain;

void place_text(const Diag *sources, Loc loc, char *out, size_t size) {
  if (!loc.line) snprintf(out, size, "-");
  else
    snprintf(out, size, "%s:%u", path_base(sources->sources.at[loc.source].name),
             (unsigned)loc.line);
}

static void add_text_moves(Explain *e, const char *what, PrecisionMoves m, PrecisionMoves f32) {
  double share = f32.bytes ? 100.0 * (double)m.bytes / (double)f32.bytes : 100.0;
  text_printf(e->out, "  %-10s %12lld bytes moved (%5.1f %%), %4u casts, %4u kernels", what,
              (long long)m.bytes, share, (unsigned)m.casts, (unsigned)m.kernels);
  if (m.cost)
    text_printf(e->out, ", %lld bytes for copies, cost %.3f ms", (long long)m.cast_bytes,
                (double)m.cost * 1e-12);
  text_add(e->out, "\n");
}

static void add_text_rows(Explain *e, const char *entry) {
  text_printf(e->out, "%s\n  %-16s %-16s %-14s %-9s %-4s %-9s %5s %10s  %s\n", entry, "line",
              "path", "op", "load", "math", "store", "casts", "bytes", "why");
  for (uint32_t i = 0; i < e->r->rows.len; i++) {
    const PrecisionRow *row = &e->r->rows.at[i];
    char at[64];
    if (strcmp(row->entry, entry)) continue;
    place_text(e->sources, row->loc, at, sizeof at);
    text_printf(e->out, "  %-16s %-16s %-14s %-9s %-4s %-9s %5u %10lld  %s\n", at,
                *row->path ? row->path : "-", row->op, row->load, row->math, row->store,
                (unsigned)row->casts, (long long)row->bytes, row->why);
  }
}

/* The how-manieth row of its entry, path and op. */
static uint32_t number_of(const PrecisionReport *r, uint32_t row) {
  const PrecisionRow *x = &r->rows.at[row];
  uint32_t n = 0;
  for (uint32_t i = 0; i < row; i++) {
    const PrecisionRow *y = &r->rows.at[i];
    n += y->entry == x->entry && y->op == x->op && !strcmp(y->path, x->path);
  }
  return n;
}

void precision_remarks(const PrecisionReport *r, Diag *diag) {
  for (uint32_t i = 0; i < r->rows.len; i++) {
    const PrecisionRow *x = &r->rows.at[i];
    diag_remark(diag, REMARK_precision, false, x->loc,
                "%s: %s loads %s, computes in %s, stores %s: %s", x->entry, x->op, x->load, x->math,
                x->store, x->why);
  }
}

static void add_slots(const PrecisionReport *r, Text *out) {
  if (r->recipe) text_printf(out, "recipe %s\n", r->recipe);
  for (uint32_t i = 0; i < r->slots.len; i++)
    text_printf(out, "slot %s: %s, scale in %s.scale, from %s.history\n", r->slots.at[i].name,
                dtype_name[r->slots.at[i].type], r->slots.at[i].name, r->slots.at[i].name);
}

void precision_manifest(const PrecisionReport *r, Text *out) {
  if (r->master && strcmp(r->master, "f32")) text_printf(out, "master %s\n", r->master);
  add_slots(r, out);
  for (uint32_t i = 0; i < r->rows.len; i++) {
    const PrecisionRow *x = &r->rows.at[i];
    text_printf(out, "%s %s %s#%u: load %s, math %s, store %s: %s\n", x->entry,
                *x->path ? x->path : "-", x->op, (unsigned)number_of(r, i), x->load, x->math,
                x->store, x->why);
  }
}

const char *precision_policy(Arena *a, const Text *manifest) {
  uint64_t hash = hash_bytes(manifest->at, manifest->len, 0);
  return arena_printf(a, "%016llx", (unsigned long long)hash);
}

static const char *policy_of(const PrecisionReport *r) {
  Arena scratch = {0};
  Text manifest = {.arena = &scratch};
  precision_manifest(r, &manifest);
  const char *policy = precision_policy(r->arena, &manifest);
  arena_free(&scratch);
  return policy;
}

static void explain_text(Explain *e) {
  for (uint32_t i = 0; i < e->r->entries.len; i++) {
    const PrecisionEntry *x = &e->r->entries.at[i];
    add_text_rows(e, x->name);
    add_text_moves(e, "all f32", x->f32, x->f32);
    add_text_moves(e, "greedy", x->greedy, x->f32);
    add_text_moves(e, "this", x->chosen, x->f32);
    text_add(e->out, "\n");
  }
  text_printf(e->out, "master %s\n", e->r->master);
  add_slots(e->r, e->out);
  text_printf(e->out, "policy %s\n", policy_of(e->r));
}

static void add_json_moves(Explain *e, const char *key, PrecisionMoves m, const char *end) {
  text_printf(e->out, "\"%s\":{\"bytes\":%lld,\"casts\":%u,\"kernels\":%u,", key,
              (long long)m.bytes, (unsigned)m.casts, (unsigned)m.kernels);
  text_printf(e->out, "\"cast_bytes\":%lld,\"cost\":%lld}%s", (long long)m.cast_bytes,
              (long long)m.cost, end);
}

static void add_json_row(Explain *e, const PrecisionRow *row, bool first) {
  char at[64];
  place_text(e->sources, row->loc, at, sizeof at);
  text_add(e->out, first ? "\n{" : ",\n{");
  text_json_field(e->out, "entry", row->entry);
  text_json_field(e->out, "line", at);
  text_json_field(e->out, "path", row->path);
  text_json_field(e->out, "op", row->op);
  text_json_field(e->out, "load", row->load);
  text_json_field(e->out, "math", row->math);
  text_json_field(e->out, "store", row->store);
  text_json_field(e->out, "why", row->why);
  text_printf(e->out, "\"casts\":%u,\"bytes\":%lld}", (unsigned)row->casts, (long long)row->bytes);
}

static void add_json_slots(Explain *e) {
  if (e->r->recipe) text_json_field(e->out, "recipe", e->r->recipe);
  text_add(e->out, "\"slots\":[");
  for (uint32_t i = 0; i < e->r->slots.len; i++) {
    text_add(e->out, i ? ",\n{" : "\n{");
    text_json_field(e->out, "name", e->r->slots.at[i].name);
    text_printf(e->out, "\"type\":\"%s\"}", dtype_name[e->r->slots.at[i].type]);
  }
  text_add(e->out, "],\n");
}

static void explain_json(Explain *e) {
  text_add(e->out, "{");
  text_json_field(e->out, "master", e->r->master);
  add_json_slots(e);
  text_json_field(e->out, "policy", policy_of(e->r));
  text_add(e->out, "\"ops\":[");
  for (uint32_t i = 0; i < e->r->rows.len; i++) add_json_row(e, &e->r->rows.at[i], !i);
  text_add(e->out, "],\n\"entries\":[");
  for (uint32_t i = 0; i < e->r->entries.len; i++) {
    const PrecisionEntry *x = &e->r->entries.at[i];
    text_add(e->out, i ? ",\n{" : "\n{");
    text_json_field(e->out, "name", x->name);
    add_json_moves(e, "f32", x->f32, ",");
    add_json_moves(e, "greedy", x->greedy, ",");
    add_json_moves(e, "chosen", x->chosen, "}");
  }
  text_add(e->out, "]}\n");
}

void precision_explain(const PrecisionReport *r, const Diag *sources, bool json, Text *out) {
  Explain e = {r, sources, out};
  if (json) explain_json(&e);
  else explain_text(&e);
}
