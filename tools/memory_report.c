/* memory_report.c: --memory-report: what a context of the model will hold, before anything runs:
 * states by kind, the arena by entry, and the largest values of the arena with the lines they come
 * from. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

enum { SHOWN = 8 }; /* largest values */

typedef struct Report {
  const Program *p;
  const Diag *sources;
  bool json;
  Text *out;
} Report;

/* "12.3 MB" */
const char *human_bytes(char *out, size_t size, uint64_t bytes) {
  static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
  double v = (double)bytes;
  int unit = 0;
  while (v >= 1000 && unit < 4) v /= 1000, unit++;
  snprintf(out, size, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
  return out;
}

static void add_states(Report *r) {
  const Graph *g = r->p->g;
  bool first = true;
  text_add(r->out, r->json ? "\"state\":{" : "state\n");
  for (int kind = STATE_param; kind < STATE_KINDS; kind++) {
    uint64_t bytes = 0;
    uint32_t n = 0;
    char text[32];
    for (uint32_t i = 0; i < g->states.len; i++) {
      if (g->states.at[i].kind != (StateKind)kind || r->p->state_at[i] == NOWHERE) continue;
      bytes += type_size(g->states.at[i].type);
      n++;
    }
    if (!n) continue;
    if (r->json)
      text_printf(r->out, "%s\"%s\":%llu", first ? "" : ",", state_kind_name[kind],
                  (unsigned long long)bytes);
    else
      text_printf(r->out, "  %-10s %10s in %u tensors\n", state_kind_name[kind],
                  human_bytes(text, sizeof text, bytes), (unsigned)n);
    first = false;
  }
  text_add(r->out, r->json ? "}" : "");
}

static void add_entries(Report *r) {
  const Graph *g = r->p->g;
  char text[32];
  text_add(r->out, r->json ? ",\"arena\":{" : "arena, shared by the entries\n");
  for (uint32_t i = 0; i < g->entries.len; i++) {
    if (r->json) {
      text_add(r->out, i ? "," : "");
      text_json(r->out, g->entries.at[i].name);
      text_printf(r->out, ":%llu", (unsigned long long)r->p->entries[i].arena_bytes);
    } else
      text_printf(r->out, "  %-10s %10s\n", g->entries.at[i].name,
                  human_bytes(text, sizeof text, r->p->entries[i].arena_bytes));
  }
  text_add(r->out, r->json ? "}" : "");
}

/* ---- the largest values ---------------------------------------------------------------------- */

typedef struct Large {
  uint64_t bytes;
  Type type;
  Loc loc;
  const char *what;
} Large;

static int by_size(const void *a, const void *b) {
  const Large *x = a, *y = b;
  return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

static uint32_t find_large(const Program *p, Large *found) {
  const Graph *g = p->g;
  uint32_t n = 0;
  for (ValueId v = 0; v < g->values.len; v++) {
    const Node *node = value_node(g, v);
    if (p->buffer[v].space != SPACE_ARENA || !node || node->op != OP_kernel) continue;
    Large l = {value_bytes(g, v), value_type(g, v), node->loc, node_text(node, AT_form, "")};
    found[n++] = l;
  }
  qsort(found, n, sizeof *found, by_size);
  return n < SHOWN ? n : SHOWN;
}

static void add_large(Report *r) {
  Arena scratch = {0};
  Large *found = NEW_ARRAY(&scratch, Large, r->p->g->values.len);
  uint32_t n = find_large(r->p, found);
  text_add(r->out, r->json ? ",\"largest\":[" : "largest values\n");
  for (uint32_t i = 0; i < n; i++) {
    const Large *l = &found[i];
    const Source *s = l->loc.line && l->loc.source < r->sources->sources.len
                          ? &r->sources->sources.at[l->loc.source]
                          : NULL;
    const char *where =
        arena_printf(&scratch, "%s:%u", s ? s->name : r->p->g->source, (unsigned)l->loc.line);
    Text type = {.arena = &scratch};
    char text[32];
    type_print(&type, l->type);
    if (r->json) {
      text_printf(r->out, "%s{\"bytes\":%llu,\"type\":", i ? "," : "",
                  (unsigned long long)l->bytes);
      text_json(r->out, type.at);
      text_add(r->out, ",\"where\":");
      text_json(r->out, where);
      text_add(r->out, "}");
    } else
      text_printf(r->out, "  %10s  %s, %s at %s\n", human_bytes(text, sizeof text, l->bytes),
                  type.at, l->what, where);
  }
  text_add(r->out, r->json ? "]" : "");
  arena_free(&scratch);
}

void memory_report(const Program *p, const Diag *sources, bool json, Text *out) {
  Report r = {p, sources, json, out};
  char a[32], b[32], c[32];
  if (json) text_add(out, "{");
  add_states(&r);
  add_entries(&r);
  add_large(&r);
  if (json)
    text_printf(out, ",\"state_bytes\":%llu,\"arena_bytes\":%llu}\n",
                (unsigned long long)p->state_bytes, (unsigned long long)p->arena_bytes);
  else
    text_printf(out, "a context holds %s: state %s, arena %s\n",
                human_bytes(a, sizeof a, p->state_bytes + p->arena_bytes),
                human_bytes(b, sizeof b, p->state_bytes), human_bytes(c, sizeof c, p->arena_bytes));
}
