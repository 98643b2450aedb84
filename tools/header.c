/* header.c: --emit=header: typed names for one model on top of mpcc_rt.h, C99 and C++: an
 * enumerator an entry, output and state, a bind function an input, so that a host program that no
 * longer fits the model does not compile. */
#include "runtime/mpcc_rt.h"
#include "tools/tools.h"

#include <ctype.h>
#include <string.h>

typedef struct Header {
  Arena *arena;
  const mp_desc *d;
  Text *out;
  VEC(const char *) names; /* of the enumeration being written */
} Header;

/* By mp_dtype; what has no C type is bits. */
static const char *const c_types[] = {"float",    "uint16_t", "uint16_t", "uint8_t",
                                      "uint8_t",  "uint8_t",  "int64_t",  "int32_t",
                                      "uint32_t", "uint16_t", "uint8_t",  "uint8_t"};

/* "net.0.weight" as part of an identifier. */
static const char *word(Header *h, const char *name) {
  char *s = arena_text(h->arena, name, strlen(name));
  for (char *c = s; *c; c++)
    if (!isalnum((unsigned char)*c)) *c = '_';
  return s;
}

static const char *upper(Header *h, const char *name) {
  char *s = arena_text(h->arena, word(h, name), strlen(name));
  for (char *c = s; *c; c++) *c = (char)toupper((unsigned char)*c);
  return s;
}

static void add_tensor(Header *h, const mp_tensor *t) {
  text_printf(h->out, "%s[", dtype_name[t->dtype]);
  for (int i = 0; i < t->ndim; i++)
    text_printf(h->out, "%s%lld", i ? ", " : "", (long long)t->dims[i]);
  text_add(h->out, "]");
}

static void add_entries(Header *h) {
  text_printf(h->out,
              "/* Entries: numbers for bind, run and output; rows of a full batch. */\nenum {\n");
  for (uint32_t i = 0; i < h->d->n_entries; i++)
    text_printf(h->out, "  %s_%s = %u,\n", h->d->name, upper(h, h->d->entries[i].name),
                (unsigned)i);
  for (uint32_t i = 0; i < h->d->n_entries; i++) {
    const mp_entry_desc *e = &h->d->entries[i];
    if (e->batch)
      text_printf(h->out, "  %s_%s_BATCH = %lld,\n", h->d->name, upper(h, e->name),
                  (long long)e->batch);
  }
  text_printf(h->out, "  %s_ENTRIES = %u\n};\n\n", h->d->name, (unsigned)h->d->n_entries);
}

/* Bytes that must be there for `rows` rows; an input without the batch axis is whole. */
static void add_bind(Header *h, const mp_entry_desc *e, uint32_t entry, uint32_t input) {
  const mp_tensor *t = &e->inputs[input];
  bool batched = e->batch && t->ndim && t->dims[0] % e->batch == 0;
  int64_t bytes = dtype_bytes[t->dtype];
  for (int i = batched; i < t->ndim; i++) bytes *= t->dims[i];
  text_add(h->out, "/* ");
  add_tensor(h, t);
  text_printf(h->out, ", borrowed until the next bind%s */\n",
              batched ? "; at least `rows` rows" : "");
  text_printf(
      h->out,
      "static inline int %s_%s_bind_%s(const mp_api *api, mp_ctx *ctx, const %s *data%s) {\n",
      h->d->name, word(h, e->name), word(h, t->name), c_types[t->dtype],
      batched ? ", int64_t rows" : "");
  text_printf(h->out, "  return api->bind(ctx, %u, %u, data, ", (unsigned)entry, (unsigned)input);
  if (batched) text_printf(h->out, "(size_t)rows * %lld);\n}\n\n", (long long)bytes);
  else text_printf(h->out, "%lld);\n}\n\n", (long long)bytes);
}

/* What the name of an output ends with, by mp_output_role. */
static const char *const role_suffix[] = {
    [MP_OUT_VALUE] = "",
    [MP_OUT_SUM] = "",
    [MP_OUT_WEIGHT] = "_weight",
    [MP_OUT_OK] = "",
    [MP_OUT_FAULT_INDEX] = "_index_fault",
    [MP_OUT_FAULT_NONFINITE] = "_nonfinite",
    [MP_OUT_HYPER] = "_hyper",
    [MP_OUT_FINITE] = "_finite",
    [MP_OUT_GAUGE] = "_gauge",
};

/* Two names may look alike as identifiers: the second then takes its number along. */
static const char *own_name(Header *h, const char *name, uint32_t number) {
  for (uint32_t i = 0; i < h->names.len; i++)
    if (!strcmp(h->names.at[i], name))
      name = arena_printf(h->arena, "%s_%u", name, (unsigned)number);
  vec_push(h->arena, &h->names, name);
  return name;
}

static void add_outputs(Header *h, const mp_entry_desc *e) {
  if (!e->n_outputs) return;
  text_printf(h->out, "/* Outputs of %s. */\nenum {\n", e->name);
  h->names.len = 0;
  for (uint32_t i = 0; i < e->n_outputs; i++) {
    const mp_output_desc *o = &e->outputs[i];
    const char *name =
        arena_printf(h->arena, "%s%s", word(h, o->tensor.name), role_suffix[o->role]);
    text_printf(h->out, "  %s_%s_OUT_%s = %u, /* ", h->d->name, upper(h, e->name),
                own_name(h, name, i), (unsigned)i);
    add_tensor(h, &o->tensor);
    text_add(h->out, " */\n");
  }
  text_printf(h->out, "  %s_%s_OUTPUTS = %u\n};\n\n", h->d->name, upper(h, e->name),
              (unsigned)e->n_outputs);
}

static void add_states(Header *h) {
  text_add(h->out, "/* Paths for get and set. */\n");
  h->names.len = 0;
  for (uint32_t i = 0; i < h->d->n_states; i++) {
    const mp_state_desc *s = &h->d->states[i];
    if (s->kind != MP_PARAM && s->kind != MP_STATE) continue;
    text_printf(h->out, "#define %s_PATH_%s \"%s\" /* ", h->d->name,
                own_name(h, word(h, s->tensor.name), i), s->tensor.name);
    add_tensor(h, &s->tensor);
    text_add(h->out, " */\n");
  }
}

void header_print(Arena *arena, const mp_desc *d, Text *out) {
  Header h = {.arena = arena, .d = d, .out = out};
  const char *guard = upper(&h, d->name);
  text_printf(out, "/* The model %s of %s; made by %s.  Functions return an mp_status. */\n",
              d->name, d->source, d->compiler);
  text_printf(out, "#ifndef %s_MODEL_H\n#define %s_MODEL_H\n\n#include \"mpcc_rt.h\"\n\n", guard,
              guard);
  text_add(out, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
  text_printf(out, "const mp_api *%s_get_api(uint32_t max_abi);\n\n", d->name);
  add_entries(&h);
  for (uint32_t i = 0; i < d->n_entries; i++) {
    if (d->entries[i].kind == MP_REPLAY || d->entries[i].kind == MP_ORIGIN)
      continue; /* they run on the step's inputs */
    for (uint32_t k = 0; k < d->entries[i].n_inputs; k++) add_bind(&h, &d->entries[i], i, k);
    add_outputs(&h, &d->entries[i]);
  }
  add_states(&h);
  text_add(out, "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
}
