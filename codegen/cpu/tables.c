/* tables.c: the constants that a compiled model hands to the runtime, and the functions around
 * them.
 *
 * The C structures of mpcc_rt.h and model.h are filled in as the runtime will see them, then
 * written as LLVM constants by walking the rows of model.def; the sizes of the two are compared, so
 * a field that model.def forgets does not go unnoticed.  A pointer becomes a private constant.
 */
#include "codegen/cpu/emit.h"

#include <llvm-c/Target.h>

#include <string.h>

typedef struct Tables {
  Module *m;
  const mp_desc *d;
  LLVMValueRef create; /* the model's own thunk */
  LLVMValueRef global_mp_desc, global_mp_api, global_mp_model;
} Tables;

/* ---- structures to constants ----------------------------------------------------------------- */

static LLVMValueRef hidden(Tables *t, const char *name, LLVMValueRef value) {
  LLVMValueRef g = LLVMAddGlobal(t->m->mod, LLVMTypeOf(value), name);
  LLVMSetInitializer(g, value);
  LLVMSetGlobalConstant(g, true);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  LLVMSetUnnamedAddress(g, LLVMGlobalUnnamedAddr);
  return g;
}

static LLVMValueRef null(const Tables *t) { return LLVMConstNull(t->m->ptr); }

static LLVMValueRef string(Tables *t, const char *s) {
  if (!s) return null(t);
  return hidden(t, "text", LLVMConstStringInContext(t->m->ctx, s, (unsigned)strlen(s), false));
}

static LLVMValueRef list(Tables *t, const char *const *s) {
  unsigned n = 0;
  if (!s) return null(t);
  while (s[n]) n++;
  LLVMValueRef *at = NEW_ARRAY(t->m->arena, LLVMValueRef, n + 1);
  for (n = 0; s[n]; n++) at[n] = string(t, s[n]);
  at[n++] = null(t);
  return hidden(t, "list", LLVMConstArray2(t->m->ptr, at, n));
}

/* A level's functions stand in its mp_level as LLVM's, until they are written. */
static LLVMValueRef functions(Tables *t, const void *fn, uint32_t n) {
  return hidden(t, "functions", LLVMConstArray2(t->m->ptr, (LLVMValueRef *)fn, n));
}

static LLVMValueRef dims(Tables *t, const int64_t *dim) {
  LLVMValueRef at[MP_MAX_RANK];
  for (int i = 0; i < MP_MAX_RANK; i++) at[i] = module_int(t->m, dim[i]);
  return LLVMConstArray2(t->m->i64, at, MP_MAX_RANK);
}

static LLVMValueRef structure(Tables *t, const char *name, LLVMValueRef *fields, unsigned n,
                              size_t size) {
  LLVMValueRef s = LLVMConstStructInContext(t->m->ctx, fields, n, false);
  LLVMTargetDataRef layout = LLVMGetModuleDataLayout(t->m->mod);
  unsigned long long bytes = LLVMABISizeOfType(layout, LLVMTypeOf(s));
  if (bytes != size) ice(NULL, NO_ID, "cpu: %s has %llu bytes, not %zu", name, bytes, size);
  return s;
}

/* One element of a table; e: the entry it belongs to, where it belongs to one. */
typedef LLVMValueRef Cell(Tables *t, const void *p, const mp_entry_desc *e);

static LLVMValueRef const_uint64_t(Tables *t, const void *p, const mp_entry_desc *e) {
  (void)e;
  return LLVMConstInt(t->m->i64, *(const uint64_t *)p, false);
}

static Cell const_mp_entry_code;

static LLVMValueRef table(Tables *t, const void *p, size_t n, size_t size, Cell *cell,
                          const mp_entry_desc *e) {
  if (!n) return null(t);
  LLVMValueRef *at = NEW_ARRAY(t->m->arena, LLVMValueRef, n);
  for (size_t i = 0; i < n; i++) {
    const mp_entry_desc *of = cell == const_mp_entry_code ? &t->d->entries[i] : e;
    at[i] = cell(t, (const char *)p + i * size, of);
  }
  return hidden(t, "table", LLVMConstArray2(LLVMTypeOf(at[0]), at, n));
}

#define STRUCT(T)                                                                                  \
  static LLVMValueRef const_##T(Tables *t, const void *p, const mp_entry_desc *e) {                \
    const T *s = p;                                                                                \
    const mp_desc *d = t->d;                                                                       \
    LLVMValueRef field[32];                                                                        \
    unsigned n = 0;                                                                                \
    (void)d, (void)e;
#define I32(T, f) field[n++] = LLVMConstInt(t->m->i32, (uint32_t)s->f, false);
#define U32(T, f) field[n++] = LLVMConstInt(t->m->i32, s->f, false);
#define I64(T, f) field[n++] = module_int(t->m, s->f);
#define U64(T, f) field[n++] = LLVMConstInt(t->m->i64, s->f, false);
#define F64(T, f) field[n++] = LLVMConstReal(t->m->f64, s->f);
#define STR(T, f) field[n++] = string(t, s->f);
#define DIMS(T, f) field[n++] = dims(t, s->f);
#define SUB(T, f, U) field[n++] = const_##U(t, &s->f, e);
#define PTR(T, f, U) field[n++] = t->global_##U;
#define TAB(T, f, U, count) field[n++] = table(t, s->f, count, sizeof(U), const_##U, e);
#define LIST(T, f) field[n++] = list(t, s->f);
#define FNS(T, f, count) field[n++] = functions(t, s->f, count);
#define END(T)                                                                                     \
  return structure(t, #T, field, n, sizeof(T));                                                    \
  }
#include "runtime/model.def"

/* ---- the description ------------------------------------------------------------------------- */

/* Types and kinds go over as numbers: the ABI's enums, which no header of the IR may include, are
 * the IR's. */
#define SAME(ir, abi) _Static_assert((int)(ir) == (int)(abi), #ir " is " #abi " in the ABI")
SAME(DT_f32, MP_F32);
SAME(DT_bf16, MP_BF16);
SAME(DT_f16, MP_F16);
SAME(DT_f8e4m3fn, MP_F8E4M3FN);
SAME(DT_f8e5m2, MP_F8E5M2);
SAME(DT_f8e8m0, MP_F8E8M0);
SAME(DT_i64, MP_I64);
SAME(DT_i32, MP_I32);
SAME(DT_u32, MP_U32);
SAME(DT_u16, MP_U16);
SAME(DT_u8, MP_U8);
SAME(DT_i1, MP_I1);
SAME(ENTRY_init, MP_INIT);
SAME(ENTRY_step, MP_STEP);
SAME(ENTRY_eval, MP_EVAL);
SAME(ENTRY_infer, MP_INFER);
SAME(ENTRY_fit, MP_FIT);
SAME(ENTRY_derive, MP_DERIVE);
SAME(ENTRY_grads, MP_GRADS);
SAME(ENTRY_apply, MP_APPLY);
SAME(ENTRY_calibrate, MP_CALIBRATE);
SAME(ENTRY_replay, MP_REPLAY);
SAME(ENTRY_origin, MP_ORIGIN);
SAME(STATE_param, MP_PARAM);
SAME(STATE_state, MP_STATE);
SAME(STATE_moment, MP_MOMENT);
SAME(STATE_counter, MP_COUNTER);
SAME(STATE_derived, MP_DERIVED);
SAME(STATE_shadow, MP_SHADOW);
SAME(STATE_part, MP_PART);
#undef SAME

mp_tensor describe_tensor(const char *name, Type type) {
  mp_tensor t = {.name = name, .dtype = type.dtype, .ndim = type.rank, .rows = type.rows};
  for (int i = 0; i < type.rank; i++) t.dims[i] = type.dim[i];
  return t;
}

static const mp_state_desc *states(const Module *m) {
  const Graph *g = m->g;
  mp_state_desc *d = NEW_ARRAY(m->arena, mp_state_desc, g->states.len);
  for (uint32_t i = 0; i < g->states.len; i++) {
    const State *s = &g->states.at[i], *master = s->master ? graph_state(g, s->master) : NULL;
    d[i] = (mp_state_desc){
        .tensor = describe_tensor(s->path, s->type), .kind = (int32_t)s->kind, .master = -1};
    if (master && s->kind != STATE_moment) d[i].master = (int32_t)(master - g->states.at);
    d[i].flags = (s->must_load ? MP_STATE_MUST_LOAD : 0) | (s->frozen ? MP_STATE_FROZEN : 0) |
                 (s->unsaved ? MP_STATE_UNSAVED : 0) | (s->phased ? MP_STATE_PHASED : 0) |
                 (s->private ? MP_STATE_PRIVATE : 0) |
                 (s->store == STORE_split ? MP_STATE_SPLIT : 0);
  }
  return d;
}

static const mp_hyper_desc *hypers(const Module *m) {
  mp_hyper_desc *d = NEW_ARRAY(m->arena, mp_hyper_desc, m->g->hypers.len);
  for (uint32_t i = 0; i < m->g->hypers.len; i++) {
    const Hyper *h = &m->g->hypers.at[i];
    d[i] = (mp_hyper_desc){h->name, h->value, h->shown};
  }
  return d;
}

static const int source_kind[READ_KINDS] = {
    [READ_rows] = MP_ROWS, [READ_windows] = MP_WINDOWS, [READ_lanes] = MP_LANES};
static const int split_kind[SPLIT_KINDS] = {
    [SPLIT_none] = MP_SPLIT_NONE, [SPLIT_last] = MP_SPLIT_LAST, [SPLIT_random] = MP_SPLIT_RANDOM};

static const mp_source_desc *sources(const Module *m) {
  mp_source_desc *d = NEW_ARRAY(m->arena, mp_source_desc, m->g->sources.len);
  for (uint32_t i = 0; i < m->g->sources.len; i++) {
    const DataSource *s = &m->g->sources.at[i];
    d[i] = (mp_source_desc){.name = s->name,
                            .kind = source_kind[s->kind],
                            .dtype = s->type.dtype,
                            .length = s->length,
                            .categories = s->category};
  }
  return d;
}

static const mp_formula_desc *formulas(const Module *m) {
  mp_formula_desc *d = NEW_ARRAY(m->arena, mp_formula_desc, m->g->formulas.len);
  for (uint32_t i = 0; i < m->g->formulas.len; i++)
    d[i] = (mp_formula_desc){m->g->formulas.at[i].name, m->g->formulas.at[i].rpn};
  return d;
}

/* Pairs as mp_load wants them. */
static const char *const *load_map(const Module *m, const Load *l) {
  const char **map = NEW_ARRAY(m->arena, const char *, 2 * l->pairs.len + 1);
  for (uint32_t i = 0; i < l->pairs.len; i++) {
    const LoadPair *p = &l->pairs.at[i];
    map[2 * i] = p->to;
    map[2 * i + 1] = arena_printf(m->arena, "%s%s", p->from, p->transpose ? " transpose" : "");
  }
  map[2 * l->pairs.len] = NULL;
  return map;
}

static const mp_load_desc *loads(const Module *m) {
  mp_load_desc *d = NEW_ARRAY(m->arena, mp_load_desc, m->g->loads.len);
  for (uint32_t i = 0; i < m->g->loads.len; i++) {
    const Load *l = &m->g->loads.at[i];
    d[i] = (mp_load_desc){l->from, l->glob, load_map(m, l)};
  }
  return d;
}

static const char *where_of(const Module *m, const Port *p) {
  if (!p->loc.line) return p->name;
  return arena_printf(m->arena, "%s: %s", module_place(m, p->loc), p->name);
}

/* What of an entry the host sees, in parallel: descriptions and arena offsets. */
typedef struct Faces {
  VEC(mp_tensor) inputs;
  VEC(mp_output_desc) outputs;
  VEC(uint64_t) input_at, output_at;
  const Block *body;
  const Entry *entry;
} Faces;

static uint64_t arena_at(const Module *m, ValueId v) {
  Buffer b = m->p->buffer[v];
  if (b.space != SPACE_ARENA) ice(m->g, m->g->values.at[v].node, "cpu: a port outside the arena");
  return b.at;
}

static void add_inputs(const Module *m, Faces *f) {
  for (uint32_t i = 0; i < f->entry->args.len; i++) {
    const Port *p = &f->entry->args.at[i];
    ValueId v = f->body->args.at[i];
    if (p->role != ARG_input) continue;
    vec_push(m->arena, &f->inputs, describe_tensor(p->name, value_type(m->g, v)));
    vec_push(m->arena, &f->input_at, arena_at(m, v));
  }
}

/* By ResRole; -1: nothing the host sees. */
static const int output_role[] = {
    [RES_state] = -1,
    [RES_loss] = MP_OUT_SUM,
    [RES_metric] = MP_OUT_SUM,
    [RES_weight] = MP_OUT_WEIGHT,
    [RES_grad] = -1,
    [RES_ok] = MP_OUT_OK,
    [RES_fault] = MP_OUT_FAULT_INDEX,
    [RES_nonfinite] = MP_OUT_FAULT_NONFINITE,
    [RES_value] = MP_OUT_VALUE,
    [RES_hyper] = MP_OUT_HYPER,
    [RES_finite] = MP_OUT_FINITE,
    [RES_gauge] = MP_OUT_GAUGE,
    [RES_watch] = MP_OUT_WATCH,
};

static void add_output(const Module *m, Faces *f, uint32_t i) {
  const Port *p = &f->entry->results.at[i];
  ValueId v = f->body->results.at[i];
  mp_output_desc o = {.tensor = describe_tensor(p->name, value_type(m->g, v)),
                      .role = output_role[p->role]};
  if (p->role == RES_fault || p->role == RES_nonfinite || p->role == RES_finite)
    o.where = where_of(m, p);
  vec_push(m->arena, &f->outputs, o);
  vec_push(m->arena, &f->output_at, arena_at(m, v));
}

/* A sum is followed by its weight, whatever the order of the entry's results. */
static void add_outputs(const Module *m, Faces *f) {
  for (uint32_t i = 0; i < f->entry->results.len; i++) {
    const Port *p = &f->entry->results.at[i];
    if (output_role[p->role] < 0 || p->role == RES_weight) continue;
    add_output(m, f, i);
    if (output_role[p->role] != MP_OUT_SUM) continue;
    for (uint32_t j = 0; j < f->entry->results.len; j++) {
      const Port *w = &f->entry->results.at[j];
      if (w->role == RES_weight && !strcmp(w->name, p->name)) add_output(m, f, j);
    }
  }
}

static uint64_t argument_at(const Module *m, uint32_t entry, ArgRole role, const char *name) {
  ValueId v = graph_entry_arg(m->g, entry, role, name);
  return v == NO_ID ? UINT64_MAX : arena_at(m, v);
}

/* Of several seed arguments, the low word, which comes first in memory. */
static uint64_t seed_at(const Module *m, const Faces *f) {
  uint64_t at = UINT64_MAX;
  for (uint32_t i = 0; i < f->entry->args.len; i++) {
    if (f->entry->args.at[i].role != ARG_seed) continue;
    uint64_t here = arena_at(m, f->body->args.at[i]);
    if (here < at) at = here;
  }
  return at;
}

static uint64_t draw_at(const Module *m, const Faces *f) {
  for (uint32_t i = 0; i < f->entry->args.len; i++)
    if (f->entry->args.at[i].role == ARG_draw) return arena_at(m, f->body->args.at[i]);
  return UINT64_MAX;
}

static void describe_entry(const Module *m, uint32_t i, mp_entry_desc *d, mp_entry_code *c) {
  const Graph *g = m->g;
  const Entry *e = &g->entries.at[i];
  Faces f = {.entry = e, .body = &g->blocks.at[e->body]};
  uint64_t *hyper = NEW_ARRAY(m->arena, uint64_t, g->hypers.len);
  const Sites *sites = sites_of(m, i);
  add_inputs(m, &f);
  add_outputs(m, &f);
  for (uint32_t h = 0; h < g->hypers.len; h++)
    hyper[h] = argument_at(m, i, ARG_hyper, g->hypers.at[h].name);
  *d = (mp_entry_desc){.name = e->name,
                       .kind = (int32_t)e->kind,
                       .flags = e->full ? MP_ENTRY_FULL : 0,
                       .batch = e->batch,
                       .n_inputs = f.inputs.len,
                       .n_outputs = f.outputs.len,
                       .inputs = f.inputs.at,
                       .outputs = f.outputs.at};
  *c = (mp_entry_code){.input_at = f.input_at.at,
                       .hyper_at = hyper,
                       .output_at = f.output_at.at,
                       .seed_at = seed_at(m, &f),
                       .draw_at = draw_at(m, &f),
                       .sites = sites->list.at,
                       .n_sites = sites->list.len};
}

/* "bf16", "bf16 master(sr)" */
static const char *precision_text(const Module *m) {
  const Train *t = &m->g->train;
  if (!t->master) return t->precision;
  return arena_printf(m->arena, "%s master(%s)", t->precision, t->master);
}

static mp_desc description(const Module *m, const mp_entry_desc *entries) {
  const Graph *g = m->g;
  return (mp_desc){
      .abi = MP_ABI,
      .size = sizeof(mp_desc),
      .name = m->o->name,
      .source = g->source,
      .source_hash = m->o->source_hash,
      .compiler = m->o->compiler,
      .target = m->target->base.name,
      .precision = precision_text(m),
      .n_entries = g->entries.len,
      .n_states = g->states.len,
      .n_hypers = g->hypers.len,
      .entries = entries,
      .states = states(m),
      .hypers = hypers(m),
      .arena_bytes = m->p->arena_bytes,
      .state_bytes = m->p->state_bytes,
      .default_steps = g->train.steps,
      .default_epochs = g->train.epochs,
      .n_sources = g->sources.len,
      .n_formulas = g->formulas.len,
      .n_loads = g->loads.len,
      .split = split_kind[g->split.kind],
      .split_fraction = g->split.fraction,
      .sources = sources(m),
      .formulas = formulas(m),
      .loads = loads(m),
      .policy = m->o->policy,
      .manifest = m->o->manifest,
  };
}

/* ---- functions around the tables ------------------------------------------------------------- */

static LLVMValueRef declare(Tables *t, const char *name, LLVMTypeRef result, unsigned n,
                            LLVMTypeRef *args, LLVMLinkage linkage) {
  LLVMValueRef fn = LLVMAddFunction(t->m->mod, name, LLVMFunctionType(result, args, n, false));
  LLVMSetLinkage(fn, linkage);
  module_attributes(t->m, fn);
  return fn;
}

/* fn(a, b, …) { return callee(&model, a, b, …); } */
static void forward(Tables *t, LLVMValueRef fn, const char *callee) {
  Module *m = t->m;
  LLVMBuilderRef b = LLVMCreateBuilderInContext(m->ctx);
  LLVMValueRef args[8] = {t->global_mp_model};
  unsigned n = LLVMCountParams(fn);
  for (unsigned i = 0; i < n; i++) args[1 + i] = LLVMGetParam(fn, i);
  LLVMPositionBuilderAtEnd(b, LLVMAppendBasicBlockInContext(m->ctx, fn, ""));
  LLVMBuildRet(b, module_call(m, b, callee, n + 1, args));
  LLVMDisposeBuilder(b);
}

static LLVMValueRef runtime_symbol(Tables *t, const char *name) {
  LLVMValueRef known = LLVMGetNamedFunction(t->m->mod, name);
  if (known) return known;
  return LLVMAddFunction(t->m->mod, name, LLVMFunctionType(t->m->none, NULL, 0, false));
}

static LLVMValueRef api(Tables *t) {
  Module *m = t->m;
  static const char *const symbols[] = {
#define API(field, symbol) #symbol,
#include "runtime/calls.def"
  };
  LLVMValueRef field[32] = {LLVMConstInt(m->i32, MP_ABI, false),
                            LLVMConstInt(m->i32, sizeof(mp_api), false), t->global_mp_desc};
  unsigned n = 3;
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
    field[n++] = strcmp(symbols[i], "mp_create") ? runtime_symbol(t, symbols[i]) : t->create;
  return structure(t, "mp_api", field, n, sizeof(mp_api));
}

static void add_functions(Tables *t) {
  Module *m = t->m;
  LLVMTypeRef get[] = {m->i32}, main_args[] = {m->i32, m->ptr};
  const char *name = arena_printf(m->arena, "%s_get_api", m->o->name);
  forward(t, t->create, "mp_create");
  forward(t, declare(t, name, m->ptr, 1, get, LLVMExternalLinkage), "mp_get_api");
  if (m->o->with_main)
    forward(t, declare(t, "main", m->i32, 2, main_args, LLVMExternalLinkage), "mp_cli");
}

static const mp_value *values(const Module *m) {
  mp_value *v = NEW_ARRAY(m->arena, mp_value, m->p->values.len);
  for (uint32_t i = 0; i < m->p->values.len; i++) {
    const ProgramValue *x = &m->p->values.at[i];
    Type t = value_type(m->g, x->value);
    v[i] = (mp_value){describe_tensor(x->name, t), x->reads, arena_at(m, x->value), x->entry,
                      t.unit};
  }
  return v;
}

/* The description, and where each entry's arguments and results lie. */
static mp_desc describe(const Module *m, mp_entry_code *code) {
  mp_entry_desc *desc = NEW_ARRAY(m->arena, mp_entry_desc, m->g->entries.len);
  for (uint32_t i = 0; i < m->g->entries.len; i++) describe_entry(m, i, &desc[i], &code[i]);
  return description(m, desc);
}

const mp_desc *cpu_describe(const Program *p, const CpuTarget *t, const CpuOptions *o,
                            Arena *arena) {
  Module m = {.arena = arena, .p = p, .g = p->g, .target = t, .o = o};
  m.sites = NEW_ARRAY(arena, Sites, m.g->entries.len);
  mp_desc *d = NEW(arena, mp_desc);
  *d = describe(&m, NEW_ARRAY(arena, mp_entry_code, p->g->entries.len));
  return d;
}

static const mp_level *level_table(Module *m, const LevelCode *code, unsigned n, Text *names) {
  mp_level *l = NEW_ARRAY(m->arena, mp_level, n);
  for (unsigned i = 0; i < n; i++) {
    text_printf(names, "%s%s", i ? "," : "", code[i].level->name);
    l[i] = (mp_level){.cpu = code[i].level->name,
                      .cpu_features = code[i].level->features,
                      .run = (const void *)code[i].entries,
                      .scratch_bytes = code[i].scratch_bytes};
  }
  return l;
}

/* For the sentence about a CPU that lacks the lowest level. */
static const char *lower_flag(const Module *m) {
  const char *lower = target_lower(m->target);
  if (!lower) return "-mcpu= of a lower level (there is none yet)";
  return arena_printf(m->arena, "-mcpu=%s, or without -mcpu=", lower);
}

void tables_emit(Module *m, const LevelCode *levels, unsigned n) {
  mp_entry_code *code = NEW_ARRAY(m->arena, mp_entry_code, m->g->entries.len);
  mp_desc d = describe(m, code);
  Text names = {.arena = m->arena};
  Tables t = {.m = m, .d = &d};
  LLVMTypeRef args[] = {m->ptr, m->ptr, m->ptr};
  mp_model model = {.code = code,
                    .state_at = m->p->state_at,
                    .levels = level_table(m, levels, n, &names),
                    .n_levels = n,
                    .cpu_flag = lower_flag(m),
                    .check_nan = m->o->check_nan,
                    .values = values(m),
                    .n_values = m->p->values.len};
  d.target = names.at;
  t.create = declare(&t, "create", m->i32, 3, args, LLVMInternalLinkage);
  t.global_mp_desc = hidden(&t, "desc", const_mp_desc(&t, &d, NULL));
  t.global_mp_api = hidden(&t, "api", api(&t));
  t.global_mp_model = hidden(&t, "model", const_mp_model(&t, &model, NULL));
  add_functions(&t);
}
