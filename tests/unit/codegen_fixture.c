/* codegen_fixture.c: loads the object by LLVM's LLJIT.  The model's table comes to light because
 * its get_api hands it to mp_get_api, which is ours here; mp_barrier is a pthread barrier. */
#define _POSIX_C_SOURCE 200809L
#include "tests/unit/codegen_fixture.h"

#include "ir/float_mode.h"
#include "passes/pass.h"
#include "runtime/model.h"

#include <llvm-c/Core.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>
#include <llvm-c/Target.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { POISON = 0xFF, THREADS = 3 };

/* ---- a Program without cleverness ------------------------------------------------------------ */

static uint64_t room(uint64_t *top, Type t) {
  uint64_t at = *top;
  *top = (at + type_size(t) + BUFFER_SLACK + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
  return at;
}

static void place_state(Program *p, ValueId v, const char *path) {
  p->buffer[v] =
      (Buffer){.space = SPACE_STATE, .at = p->state_at[graph_state(p->g, path) - p->g->states.at]};
}

static Buffer arena_buffer(Program *p, ValueId v) {
  return (Buffer){.space = SPACE_ARENA, .at = room(&p->arena_bytes, value_type(p->g, v))};
}

static void plan_entry(Program *p, uint32_t e) {
  Graph *g = p->g;
  const Entry *en = &g->entries.at[e];
  const Block *b = &g->blocks.at[en->body];
  for (uint32_t i = 0; i < b->args.len; i++) {
    ValueId v = b->args.at[i];
    if (en->args.at[i].role == ARG_state) place_state(p, v, en->args.at[i].name);
    else p->buffer[v] = arena_buffer(p, v);
  }
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; k < n->nres; k++)
      p->buffer[n->res + k] =
          n->op == OP_reshape ? p->buffer[n->ops[0]] : arena_buffer(p, n->res + k);
    if (n->op == OP_kernel)
      vec_push(g->arena, &p->entries[e].steps,
               (ProgramStep){.node = b->nodes.at[i], .barrier = true});
  }
  for (uint32_t i = 0; i < b->results.len; i++)
    if (en->results.at[i].role == RES_state)
      place_state(p, b->results.at[i], en->results.at[i].name);
}

static Program *plan_simply(Graph *g) {
  Program *p = NEW(g->arena, Program);
  p->g = g;
  p->buffer = NEW_ARRAY(g->arena, Buffer, g->values.len);
  p->entries = NEW_ARRAY(g->arena, ProgramEntry, g->entries.len);
  p->state_at = NEW_ARRAY(g->arena, uint64_t, g->states.len);
  for (uint32_t i = 0; i < g->states.len; i++)
    p->state_at[i] = room(&p->state_bytes, g->states.at[i].type);
  for (uint32_t e = 0; e < g->entries.len; e++) plan_entry(p, e);
  return p;
}

void fixture_init(Fixture *f, const char *text) {
  *f = (Fixture){0};
  f->strings.arena = &f->arena;
  diag_init(&f->diag, &f->arena, stderr);
  const char *all = arena_printf(&f->arena, "graph \"t\"\n%s", text);
  f->g =
      graph_parse(&f->arena, &f->strings, &f->diag, diag_source(&f->diag, "t", all, strlen(all)));
  Text why = {.arena = &f->arena};
  if (!f->g) exit(1);
  if (graph_verify(f->g, &why)) fprintf(stderr, "the test's graph: %s\n", why.at), exit(1);
  f->scalars = scalars_parse(&f->arena);
}

/* ---- a Program as the compiler makes it ------------------------------------------------------ */

static void share(Graph *g, BlockId block) {
  for (uint32_t i = 0; i < g->blocks.at[block].nodes.len; i++) {
    NodeId id = g->blocks.at[block].nodes.at[i];
    const Node *n = &g->nodes.at[id];
    if (n->op == OP_loop) share(g, n->blocks[0]);
    if (n->op == OP_kernel && strcmp(node_text(n, AT_form, ""), form_name[FORM_reduce]) != 0)
      node_set_attr(g, id, attr_int(AT_part, 0));
  }
}

static const Target target = {
    .name = "x86-64-v3", .auto_precision = "f32", .f32_lanes = 8, .costs = &costs_cpu};

void fixture_passes(Fixture *f) {
  PassValues values = {0};
  PassOptions o = {.check = pass_check_values, .check_user = &values};
  PassCtx pc = {.arena = &f->arena, .diag = &f->diag, .target = &target, .options = &o};
  if (!passes_run(&f->g, passes_default, &pc)) exit(1);
  arena_free(&values.arena);
  f->scalars = scalars_parse(&f->arena);
  f->planned = true;
}

/* Values of all builds have the numbers that they have in f->g. */
static Program *plan(Fixture *f, Build b) {
  static const PassOptions none = {0};
  PassCtx pc = {.arena = &f->arena, .diag = &f->diag, .target = &target, .options = &none};
  Graph *g = graph_clone(f->g, &f->arena);
  for (uint32_t i = 0; b.shared && i < g->entries.len; i++) share(g, g->entries.at[i].body);
  return f->planned ? plan_make(g, &pc) : plan_simply(g);
}

void fixture_free(Fixture *f) { arena_free(&f->arena); }

#ifdef __aarch64__
static const char *const lowest = "armv8-a";
#else
static const char *const lowest = "x86-64-v3";
#endif

static Program *compile(Fixture *f, Build b, CpuOutput output, CpuCode *code) {
  const char *why = NULL;
  CpuOptions o = {.name = "t", .source_hash = "", .policy = "", .compiler = "test", .opt = b.opt};
  o.output = output;
  o.parts = b.parts;
  const CpuTarget *t = cpu_target(&f->arena, NULL, b.mcpu ? b.mcpu : lowest, &why);
  Program *p = plan(f, b);
  if (t && cpu_compile(p, t, &o, &f->arena, code, &why)) return p;
  fprintf(stderr, "%s -O%d: %s\n", b.mcpu ? b.mcpu : lowest, b.opt, why);
  exit(1);
}

void fixture_compile(Fixture *f, Build b, CpuOutput output, CpuCode *code) {
  compile(f, b, output, code);
}

/* ---- loading --------------------------------------------------------------------------------- */

static const mp_api *get_api(const mp_model *model, uint32_t max) {
  (void)max;
  return (const mp_api *)(const void *)model;
}

static void barrier(mp_team *team) { pthread_barrier_wait((pthread_barrier_t *)(void *)team); }
static void absent(void) { abort(); }

static LLVMOrcExecutorAddress address(void (*fn)(void)) {
  uintptr_t at;
  memcpy(&at, &fn, sizeof at);
  return at;
}

static void stop(LLVMErrorRef error) {
  if (!error) return;
  fprintf(stderr, "LLJIT: %s\n", LLVMGetErrorMessage(error));
  exit(1);
}

static void define_runtime(LLVMOrcLLJITRef jit) {
  static const char *const names[] = {
#define CALL(name, result, args) #name,
#define API(field, symbol) #symbol,
#include "runtime/calls.def"
  };
  enum { N = sizeof names / sizeof *names };
  LLVMOrcCSymbolMapPair pair[N];
  size_t n = 0;
  for (size_t i = 0; i < N; i++) {
    void (*fn)(void) = absent;
    if (!strcmp(names[i], "mp_get_api")) fn = (void (*)(void))get_api;
    if (!strcmp(names[i], "mp_barrier")) fn = (void (*)(void))barrier;
    if (i > 3 && !strcmp(names[i], "mp_create")) continue; /* listed twice */
    LLVMOrcSymbolStringPoolEntryRef name = LLVMOrcLLJITMangleAndIntern(jit, names[i]);
    pair[n++] =
        (LLVMOrcCSymbolMapPair){name, {address(fn), {LLVMJITSymbolGenericFlagsExported, 0}}};
  }
  LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(jit);
  stop(LLVMOrcJITDylibDefine(lib, LLVMOrcAbsoluteSymbols(pair, n)));
}

static const mp_model *load(LLVMOrcLLJITRef *jit, const CpuCode *code, unsigned n) {
  LLVMInitializeNativeTarget();
  LLVMInitializeNativeAsmPrinter();
  stop(LLVMOrcCreateLLJIT(jit, NULL));
  define_runtime(*jit);
  LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(*jit);
  for (unsigned i = 0; i < n; i++) {
    LLVMMemoryBufferRef object =
        LLVMCreateMemoryBufferWithMemoryRangeCopy(code[i].at, code[i].size, "t.o");
    stop(LLVMOrcLLJITAddObjectFile(*jit, lib, object));
  }
  LLVMOrcExecutorAddress at;
  stop(LLVMOrcLLJITLookup(*jit, &at, "t_get_api"));
  const mp_api *(*get)(uint32_t);
  uintptr_t bits = (uintptr_t)at;
  memcpy(&get, &bits, sizeof get);
  return (const mp_model *)(const void *)get(1);
}

/* ---- running --------------------------------------------------------------------------------- */

/* Of one build; the evaluator is all builds'. */
typedef struct Run {
  Fixture *f;
  Build build;
  const Program *p;
  Eval *e;
  LLVMOrcLLJITRef jit;
  const mp_model *model;
  uint32_t entry;
  int64_t rows;
  mp_frame frame;
  char *want_state, *want_arena; /* the bytes that there should be afterwards */
} Run;

typedef struct Thread {
  const Run *run;
  int32_t tid, threads;
} Thread;

static void *thread(void *arg) {
  const Thread *t = arg;
  uint64_t saved = float_mode_set();
  t->run->model->levels->run[t->run->entry](&t->run->frame, t->tid, t->threads);
  float_mode_restore(saved);
  return NULL;
}

static void run_threads(Run *r, int threads) {
  pthread_barrier_t meet;
  pthread_t id[THREADS];
  Thread t[THREADS];
  pthread_barrier_init(&meet, NULL, (unsigned)threads);
  r->frame.team = (mp_team *)(void *)&meet;
  for (int i = 0; i < threads; i++) t[i] = (Thread){r, i, threads};
  for (int i = 1; i < threads; i++) pthread_create(&id[i], NULL, thread, &t[i]);
  thread(&t[0]);
  for (int i = 1; i < threads; i++) pthread_join(id[i], NULL);
  pthread_barrier_destroy(&meet);
}

static char *place(Run *r, char *state, char *arena, ValueId v) {
  Buffer b = r->p->buffer[v];
  return (b.space == SPACE_STATE ? state : arena) + b.at;
}

static void fill_arguments(Run *r) {
  const Fixture *f = r->f;
  const Block *b = &f->g->blocks.at[f->g->entries.at[r->entry].body];
  memset(r->frame.state, POISON, r->p->state_bytes);
  memset(r->frame.arena, POISON, r->p->arena_bytes);
  for (uint32_t i = 0; i < b->args.len; i++) {
    ValueId v = b->args.at[i];
    memcpy(place(r, r->frame.state, r->frame.arena, v), eval_value(r->e, v)->data,
           value_bytes(f->g, v));
  }
}

/* The arguments with every kernel's results as the evaluator has them. */
static void fill_wanted(Run *r) {
  const Fixture *f = r->f;
  const Block *b = &f->g->blocks.at[f->g->entries.at[r->entry].body];
  fill_arguments(r);
  if (f->planned) return;
  memcpy(r->want_state, r->frame.state, r->p->state_bytes);
  memcpy(r->want_arena, r->frame.arena, r->p->arena_bytes);
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &f->g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; n->op == OP_kernel && k < n->nres; k++) {
      ValueId v = n->res + k;
      const Tensor *t = eval_value(r->e, v);
      memcpy(place(r, r->want_state, r->want_arena, v), t->data, value_bytes(f->g, v));
    }
  }
}

/* NaN results may differ in their payload: where both are NaN, the wanted one is taken over. */
static void forgive_nan(Run *r, ValueId v) {
  Type type = value_type(r->f->g, v);
  Tensor got = {.type = type, .data = place(r, r->frame.state, r->frame.arena, v)};
  Tensor want = {.type = type, .data = place(r, r->want_state, r->want_arena, v)};
  if (!type_is_float(type)) return;
  size_t size = tensor_elem_bytes(&want);
  for (int64_t i = 0; i < type_count(type); i++)
    if (isnan(tensor_get(&got, i)) && isnan(tensor_get(&want, i)))
      memcpy((char *)got.data + (size_t)i * size, (char *)want.data + (size_t)i * size, size);
}

static void report(Run *r, ValueId v) {
  Type type = value_type(r->f->g, v);
  Tensor got = {.type = type, .data = place(r, r->frame.state, r->frame.arena, v)};
  Tensor want = {.type = type, .data = place(r, r->want_state, r->want_arena, v)};
  int64_t at;
  if (tensor_same(&got, &want, &at)) return;
  fprintf(stderr, "  value %u element %lld: got %a, want %a\n", (unsigned)v, (long long)at,
          tensor_get(&got, at), tensor_get(&want, at));
}

/* A result of the entry where the evaluator has another value. */
static bool results_same(Run *r) {
  const Fixture *f = r->f;
  const Entry *en = &f->g->entries.at[r->entry];
  const Block *b = &f->g->blocks.at[en->body];
  bool ok = true;
  for (uint32_t i = 0; i < b->results.len; i++) {
    ValueId v = b->results.at[i];
    Tensor got = {.type = value_type(f->g, v), .data = place(r, r->frame.state, r->frame.arena, v)};
    int64_t at = 0;
    if (tensor_same(&got, eval_value(r->e, v), &at)) continue;
    fprintf(stderr, "  result %s \"%s\", element %lld: got %a, want %a\n",
            res_role_name[en->results.at[i].role], en->results.at[i].name, (long long)at,
            tensor_get(&got, at), tensor_get(eval_value(r->e, v), at));
    ok = false;
  }
  return ok;
}

static bool same(Run *r) {
  const Fixture *f = r->f;
  if (f->planned) return results_same(r);
  const Block *b = &f->g->blocks.at[f->g->entries.at[r->entry].body];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &f->g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; n->op == OP_kernel && k < n->nres; k++) forgive_nan(r, n->res + k);
  }
  if (!memcmp(r->frame.state, r->want_state, r->p->state_bytes) &&
      !memcmp(r->frame.arena, r->want_arena, r->p->arena_bytes))
    return true;
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &f->g->nodes.at[b->nodes.at[i]];
    for (uint32_t k = 0; n->op == OP_kernel && k < n->nres; k++) report(r, n->res + k);
  }
  return false;
}

static void run_code(Checks *c, Run *r) {
  const Entry *en = &r->f->g->entries.at[r->entry];
  Build b = r->build;
  r->frame.rows = r->rows;
  for (int threads = 1; threads <= THREADS; threads++) {
    fill_wanted(r);
    run_threads(r, threads);
    if (!check(c, same(r), "compiled = evaluated", __FILE__, __LINE__))
      fprintf(stderr, "  entry %s, %s -O%d, %d threads, %lld of %lld rows\n", en->name,
              b.mcpu ? b.mcpu : lowest, b.opt, threads, (long long)r->rows, (long long)en->batch);
  }
}

/* The evaluator on the Program's memory, poisoned. */
static void run_program(Checks *c, const Run *r, Eval *e) {
  const Entry *en = &r->f->g->entries.at[r->entry];
  eval_run_program(e, r->p, r->entry, r->rows);
  for (uint32_t i = 0; i < en->results.len; i++) {
    Port p = en->results.at[i];
    int64_t at;
    bool ok = tensor_same(eval_result(r->e, (ResRole)p.role, p.name),
                          eval_result(e, (ResRole)p.role, p.name), &at);
    if (!check(c, ok, "the Program gives what the graph gives", __FILE__, __LINE__))
      fprintf(stderr, "  entry %s, result %s, element %lld\n", en->name, p.name, (long long)at);
  }
}

/* ---- arguments ------------------------------------------------------------------------------- */

static void sprinkle(const Scalars *s, Tensor *t, uint64_t seed) {
  static const double special[] = {0.0, -0.0,     INFINITY,  -INFINITY,
                                   NAN, 0x1p-126, -0x1p-126, 0x1.fffffep+127};
  tensor_fill_random(s, t, seed);
  if (!type_is_float(t->type)) return;
  for (int64_t i = (int64_t)(seed % 5); i < type_count(t->type);
       i += 3 + (i * 7 + (int64_t)seed) % 11)
    tensor_set(s, t, i, special[(i + (int64_t)seed) % 8]);
}

static void set_specials(Run *r) {
  const Fixture *f = r->f;
  const Entry *en = &f->g->entries.at[r->entry];
  const Block *b = &f->g->blocks.at[en->body];
  for (uint32_t i = 0; i < b->args.len; i++) {
    Arena a = {0};
    Tensor t = tensor_new(&a, value_type(f->g, b->args.at[i]), false);
    sprinkle(f->scalars, &t, i + 1);
    eval_set(r->e, (ArgRole)en->args.at[i].role, en->args.at[i].name, &t);
    arena_free(&a);
  }
}

static Eval *evaluator(Run *r, bool specials) {
  Fixture *f = r->f;
  r->e = eval_new(&f->arena, f->g, f->scalars, EVAL_EXACT);
  if (specials) set_specials(r);
  else eval_set_random(r->e, r->entry, 42);
  return r->e;
}

static void run_rows(Checks *c, Run *r, int n, bool specials) {
  int64_t batch = r->f->g->entries.at[r->entry].batch;
  int64_t rows[] = {batch > 0 ? batch : 1, batch / 2, 1};
  Eval *on_memory = r->f->planned && !specials ? evaluator(r, specials) : NULL;
  Eval *e = evaluator(r, specials);
  for (int k = 0; k < 3; k++) {
    if (k && (batch <= 1 || rows[k] == rows[k - 1])) continue;
    eval_run(e, r->entry, rows[k]);
    for (int i = 0; i < n; i++) {
      r[i].e = e;
      r[i].rows = rows[k];
      if (on_memory) run_program(c, &r[i], on_memory);
      run_code(c, &r[i]);
    }
  }
  eval_free(e);
  if (on_memory) eval_free(on_memory);
}

static void *bytes(uint64_t n) { return aligned_alloc(64, (n + 4096 + 63) / 64 * 64); }

static void start(Run *r, Fixture *f, Build b) {
  CpuCode code[CPU_MOST_PARTS];
  *r = (Run){.f = f, .build = b, .p = compile(f, b, CPU_OBJECT, code)};
  r->model = load(&r->jit, code, b.parts);
  r->frame.state = bytes(r->p->state_bytes);
  r->frame.arena = bytes(r->p->arena_bytes);
  r->want_state = bytes(r->p->state_bytes);
  r->want_arena = bytes(r->p->arena_bytes);
  r->frame.scratch_stride = (r->model->levels->scratch_bytes + 63) / 64 * 64;
  r->frame.scratch = bytes(r->frame.scratch_stride * THREADS);
}

static void end(Run *r) {
  free(r->frame.state), free(r->frame.arena), free(r->want_state), free(r->want_arena);
  free(r->frame.scratch);
  stop(LLVMOrcDisposeLLJIT(r->jit));
}

void fixture_run(Checks *c, Fixture *f, const Build *b, int n) {
  Run r[FIXTURE_BUILDS];
  for (int i = 0; i < n; i++) start(&r[i], f, b[i]);
  for (uint32_t e = 0; e < f->g->entries.len; e++) {
    for (int i = 0; i < n; i++) r[i].entry = e;
    run_rows(c, r, n, false);
    run_rows(c, r, n, true);
  }
  for (int i = 0; i < n; i++) end(&r[i]);
}
