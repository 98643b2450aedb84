/* compare_print.c: what `mpcc compare` found, as a table or as JSON. */
#include "tools/compare.h"

#include <string.h>

enum { SHOWN_STEPS = 10 }; /* of the loss curves */

static const char *const title[PHASES] = {"forward", "backward", "gradients",
                                          "weights, at the end"};

static void add_pair(const Comparison *c, Text *out, const Pair *p) {
  const char *name = arena_printf(c->arena, "%s%s%s", p->op, strcmp(p->number, "#0") ? " " : "",
                                  strcmp(p->number, "#0") ? p->number : "");
  text_printf(out, "  %-18s %-22s %-14s %-5s %-5s", p->place, p->path, name, p->stored[0],
              p->stored[1]);
  if (!p->d.relative && p->d.finite) text_add(out, "          0          0          0\n");
  else {
    text_printf(out, " %10.2e %10.2e %10.2e", p->d.most, p->d.relative, p->d.mean);
    if (p->phase != PHASE_weight) text_printf(out, " %7.3g", p->grown);
    text_add(out, "\n");
  }
}

static void add_pairs(const Comparison *c, Text *out, Phase phase) {
  bool first = true;
  for (uint32_t i = 0; i < c->pairs.len; i++) {
    if (c->pairs.at[i].phase != phase) continue;
    if (first) text_printf(out, "%s\n", title[phase]);
    first = false;
    add_pair(c, out, &c->pairs.at[i]);
  }
}

static double apart(const Comparison *c, uint32_t i) {
  double x = c->log[0].steps.at[i].loss, y = c->log[1].steps.at[i].loss;
  return 100 * (x - y) / fabs(y);
}

static uint32_t common_steps(const Comparison *c) {
  return c->log[0].steps.len < c->log[1].steps.len ? c->log[0].steps.len : c->log[1].steps.len;
}

static void add_losses(const Comparison *c, Text *out) {
  uint32_t n = common_steps(c), shown = n < SHOWN_STEPS ? n : SHOWN_STEPS;
  text_printf(out, "loss\n  %8s %12s %12s %10s\n", "step", c->words[0], c->words[1], "apart");
  for (uint32_t k = 0; k < shown; k++) {
    uint32_t i = shown > 1 ? (uint32_t)((uint64_t)k * (n - 1) / (shown - 1)) : 0;
    text_printf(out, "  %8lld %12.6g %12.6g %8.3f %%\n", (long long)c->log[0].steps.at[i].step,
                c->log[0].steps.at[i].loss, c->log[1].steps.at[i].loss, apart(c, i));
  }
}

/* The pair of a step's that has grown most. */
static const Pair *most_grown(const Comparison *c) {
  const Pair *most = NULL;
  for (uint32_t i = 0; i < c->pairs.len; i++) {
    const Pair *p = &c->pairs.at[i];
    if (p->phase != PHASE_weight && (!most || p->grown > most->grown)) most = p;
  }
  return most;
}

/* Not enough to blame anything, but where to look first. */
static void add_no_part(const Comparison *c, Text *out) {
  const Pair *p = most_grown(c);
  text_add(out, "no value differs by much more than what went into it");
  if (p)
    text_printf(out, "; by most %s, %s of %s: %.2g times that", p->place, p->op, p->path, p->grown);
  text_add(out, "\n");
}

static void add_verdict(const Comparison *c, Text *out) {
  const Pair *p = c->part;
  if (c->same) text_add(out, "they part nowhere: every value is the same\n");
  else if (!p) add_no_part(c, out);
  else if (!p->d.finite)
    text_printf(out, "they part at %s, %s of %s: it is not finite on one side\n", p->place, p->op,
                p->path);
  else
    text_printf(out,
                "they part at %s, %s of %s: its relative difference is %.2g, %.0f times that of "
                "what went into it\n",
                p->place, p->op, p->path, p->d.relative, p->grown);
}

void compare_text(const Comparison *c, Text *out) {
  text_printf(out, "%s: %s compared with %s, values of step %s\n", c->model, c->words[0],
              c->words[1], c->step);
  text_printf(out, "  %-18s %-22s %-14s %-11s %10s %10s %10s %7s\n", "line", "path", "op", "stored",
              "max", "rel. L2", "mean", "grown");
  for (int phase = 0; phase < PHASES; phase++) add_pairs(c, out, (Phase)phase);
  for (int side = 0; side < SIDES; side++)
    if (c->alone[side])
      text_printf(out, "without counterpart: %u of %s\n", (unsigned)c->alone[side], c->words[side]);
  add_losses(c, out);
  add_verdict(c, out);
}

/* ---- JSON ---- */

static void add_number(Text *out, const char *key, double v, const char *end) {
  if (key) text_printf(out, "\"%s\":", key);
  if (isfinite(v)) text_double(out, v);
  else text_add(out, "null"); /* JSON has no infinity */
  text_add(out, end);
}

static void add_pair_json(Text *out, const Pair *p) {
  text_add(out, "{");
  text_json_field(out, "phase", phase_name[p->phase]);
  text_json_field(out, "path", p->path);
  text_json_field(out, "op", p->op);
  text_json_field(out, "line", p->place);
  text_printf(out, "\"number\":%s,\"stored\":[", p->number + 1);
  text_json(out, p->stored[0]);
  text_add(out, ",");
  text_json(out, p->stored[1]);
  text_printf(out, "],\"finite\":%s,", p->d.finite ? "true" : "false");
  add_number(out, "max", p->d.most, ",");
  add_number(out, "relative_l2", p->d.relative, ",");
  add_number(out, "mean", p->d.mean, ",");
  add_number(out, "grown", p->grown, "}");
}

void compare_json(const Comparison *c, Text *out) {
  text_add(out, "{");
  text_json_field(out, "model", c->model);
  text_json_field(out, "precision", c->words[0]);
  text_json_field(out, "reference", c->words[1]);
  text_printf(out, "\"step\":%s,\"same\":%s,\"values\":[", c->step, c->same ? "true" : "false");
  for (uint32_t i = 0; i < c->pairs.len; i++) {
    text_add(out, i ? ",\n" : "\n");
    add_pair_json(out, &c->pairs.at[i]);
  }
  text_printf(out, "],\n\"alone\":[%u,%u],\"losses\":[", (unsigned)c->alone[0],
              (unsigned)c->alone[1]);
  for (uint32_t i = 0; i < common_steps(c); i++) {
    text_printf(out, "%s[%lld,", i ? "," : "", (long long)c->log[0].steps.at[i].step);
    add_number(out, NULL, c->log[0].steps.at[i].loss, ",");
    add_number(out, NULL, c->log[1].steps.at[i].loss, "]");
  }
  text_add(out, "],\"part\":");
  if (c->part) add_pair_json(out, c->part);
  else text_add(out, "null");
  text_add(out, "}\n");
}
