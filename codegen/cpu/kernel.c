/* kernel.c: one function a distinct kernel.
 *
 *   void kernel(i32 tid, i32 threads, i64 rows, ptr scratch, ptr operand…, ptr result…)
 *
 * Equal layers have equal kernels, so a kernel's key is a text of all that its code depends on:
 * level, form, types, nodes and attributes with values numbered from the block's start, the batch,
 * and for each pointer how it is aligned and whether its bytes overlap others (a state is written
 * where it is read).  Same key, same function.
 */
#include "codegen/cpu/emit.h"

#include <string.h>

/* ---- pointers -------------------------------------------------------------------------------- */

typedef struct Pointer {
  uint64_t at, end, align;
  uint8_t space;
  bool written;
} Pointer;

static Pointer pointer_of(const Module *m, ValueId v, bool written) {
  Buffer b = m->p->buffer[v];
  return (Pointer){b.at, buffer_end(m->p, v), buffer_align(b), b.space, written};
}

static bool overlap(const Pointer *a, const Pointer *b) {
  return a->space == b->space && a->at < b->end && b->at < a->end;
}

static bool shares(const Pointer *p, uint32_t n, uint32_t i) {
  for (uint32_t j = 0; j < n; j++)
    if (j != i && (p[i].written || p[j].written) && overlap(&p[i], &p[j])) return true;
  return false;
}

/* What the function may know of a pointer; a letter of the key. */
typedef struct Knows {
  bool alone;
  unsigned align;
} Knows;

static Knows *pointers(const Module *m, const Node *n) {
  uint32_t count = n->nops + n->nres;
  Pointer *p = NEW_ARRAY(m->arena, Pointer, count);
  Knows *k = NEW_ARRAY(m->arena, Knows, count);
  for (uint32_t i = 0; i < n->nops; i++) p[i] = pointer_of(m, n->ops[i], false);
  for (uint32_t i = 0; i < n->nres; i++) p[n->nops + i] = pointer_of(m, n->res + i, true);
  for (uint32_t i = 0; i < count; i++) {
    k[i].alone = !shares(p, count, i);
    k[i].align = (unsigned)p[i].align;
  }
  return k;
}

/* ---- the key --------------------------------------------------------------------------------- */

static uint32_t number_of(const Graph *g, const Block *b, ValueId v) {
  for (uint32_t i = 0; i < b->args.len; i++)
    if (b->args.at[i] == v) return i;
  for (uint32_t i = 0; i < b->nodes.len; i++)
    if (g->nodes.at[b->nodes.at[i]].res == v) return b->args.len + i;
  ice(g, b->owner, "cpu: a kernel reads a value from outside");
}

static void key_attrs(Text *t, const Node *n) {
  for (uint32_t i = 0; i < n->nattrs; i++) {
    const Attr *a = &n->attrs[i];
    text_printf(t, " %s", attr_name[a->key]);
    if (attr_kind[a->key] == ATTR_FLOAT) text_printf(t, "=%a", a->f);
    else if (attr_kind[a->key] == ATTR_TEXT) text_printf(t, "=%s", a->s);
    else if (attr_kind[a->key] == ATTR_INTS)
      for (uint32_t j = 0; j < a->n; j++) text_printf(t, ",%lld", (long long)a->ints[j]);
    else text_printf(t, "=%lld", (long long)a->i);
  }
}

static void key_type(Text *t, Type type) {
  type.unit = 0;
  text_add(t, ":");
  type_print(t, type);
}

static void key_nodes(Text *t, const Graph *g, const Block *b) {
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *n = &g->nodes.at[b->nodes.at[i]];
    text_printf(t, "\n%s", op_name[n->op]);
    key_attrs(t, n);
    for (uint32_t j = 0; j < n->nops; j++) text_printf(t, " %u", number_of(g, b, n->ops[j]));
    key_type(t, value_type(g, n->res));
  }
}

static const char *kernel_key(Module *m, const Node *n, const Knows *knows, int64_t batch) {
  const Graph *g = m->g;
  const Block *b = &g->blocks.at[n->blocks[0]];
  Text t = {.arena = m->arena};
  bool alone = node_int(n, AT_part, 0) < 0;
  text_printf(&t, "%s %s batch %lld%s", m->level->name, node_text(n, AT_form, ""), (long long)batch,
              alone ? " alone" : "");
  for (uint32_t i = 0; i < n->nops + n->nres; i++)
    text_printf(&t, " %c%u", knows[i].alone ? 'a' : 's', knows[i].align);
  for (uint32_t i = 0; i < b->args.len; i++) key_type(&t, value_type(g, b->args.at[i]));
  key_nodes(&t, g, b);
  for (uint32_t i = 0; i < b->results.len; i++)
    text_printf(&t, "\nresult %u", number_of(g, b, b->results.at[i]));
  return intern(&m->keys, t.at, t.len);
}

/* ---- the function ---------------------------------------------------------------------------- */

const char *level_suffix(const Module *m) {
  return m->target->n > 1 ? arena_printf(m->arena, ".%s", m->level->name) : "";
}

/* A part of several sees the others' functions by name; the model's own makes it unique. */
static const char *name_of(const Module *m, const Node *n, const char *suffix) {
  const char *form = node_text(n, AT_form, "");
  const char *prefix = m->o->parts > 1 ? arena_printf(m->arena, "%s.", m->o->name) : "";
  return arena_printf(m->arena, "%s%s.%u%s%s", prefix, form, m->kernels.len, suffix,
                      level_suffix(m));
}

int64_t entry_batch(const Entry *e) {
  bool once = e->kind == ENTRY_init || e->kind == ENTRY_derive;
  return once ? 0 : e->batch ? e->batch : 1;
}

static int64_t elements(const Module *m, const Node *n) { /* of the largest operand or result */
  int64_t most = 0;
  for (uint32_t i = 0; i < n->nops + n->nres; i++) {
    ValueId v = i < n->nops ? n->ops[i] : n->res + (i - n->nops);
    int64_t count = type_count(value_type(m->g, v));
    if (count > most) most = count;
  }
  return most;
}

/* Not worth optimising, and a good part of the time to compile: what runs once and what one thread
 * does with a handful of elements. */
static bool is_cold(const Module *m, const Node *n, int64_t batch) {
  enum { HANDFUL = 64 };
  return batch == 0 || (node_int(n, AT_part, 0) < 0 && elements(m, n) <= HANDFUL);
}

static bool multiplies_bf16(const Module *m, const Node *n) {
  const Block *b = &m->g->blocks.at[n->blocks[0]];
  for (uint32_t i = 0; i < b->nodes.len; i++) {
    const Node *x = &m->g->nodes.at[b->nodes.at[i]];
    if (x->op == OP_matmul && value_type(m->g, x->ops[0]).dtype == DT_bf16 &&
        value_type(m->g, x->ops[1]).dtype == DT_bf16)
      return true;
  }
  return false;
}

static bool same_code(const CpuLevel *a, const CpuLevel *b, bool bf16) {
  return !strcmp(a->llvm, b->llvm) && !strcmp(a->tune, b->tune) &&
         (!bf16 || a->vec.dot_bf16 == b->vec.dot_bf16);
}

/* The lowest level whose code does for this one: any level's for what is cold or done in less time
 * than it takes the threads to meet, and instructions for bf16 are of use in products alone. */
static const CpuLevel *level_for(const Module *m, const Node *n, int64_t batch) {
  enum { FEW = 2048 };
  const CpuLevel *l = m->target->level;
  if (is_cold(m, n, batch) || elements(m, n) <= FEW) return l;
  bool bf16 = multiplies_bf16(m, n);
  while (l < m->level && !same_code(l, m->level, bf16)) l++;
  return l;
}

static void leave_unoptimized(const Module *m, LLVMValueRef fn) {
  module_add_attribute(m, fn, (unsigned)LLVMAttributeFunctionIndex, "optnone", 0);
  module_add_attribute(m, fn, (unsigned)LLVMAttributeFunctionIndex, "noinline", 0);
}

static LLVMValueRef declare(Module *m, const Node *n, const Knows *knows, const char *suffix) {
  uint32_t count = 4 + n->nops + n->nres;
  LLVMTypeRef *t = NEW_ARRAY(m->arena, LLVMTypeRef, count);
  t[0] = t[1] = m->i32;
  t[2] = m->i64;
  for (uint32_t i = 3; i < count; i++) t[i] = m->ptr;
  LLVMTypeRef type = LLVMFunctionType(m->none, t, count, false);
  LLVMValueRef fn = LLVMAddFunction(m->mod, name_of(m, n, suffix), type);
  if (m->o->parts > 1) LLVMSetVisibility(fn, LLVMHiddenVisibility);
  else LLVMSetLinkage(fn, LLVMInternalLinkage);
  module_attributes(m, fn);
  for (uint32_t i = 3; i < count; i++) {
    Knows of = i == 3 ? (Knows){true, BUFFER_ALIGN} : knows[i - 4];
    module_add_attribute(m, fn, i + 1, "align", of.align);
    if (of.alone) module_add_attribute(m, fn, i + 1, "noalias", 0);
  }
  return fn;
}

static void begin(Kernel *k) {
  Module *m = k->m;
  LLVMBasicBlockRef root = LLVMAppendBasicBlockInContext(m->ctx, k->fn, "root");
  k->block = LLVMAppendBasicBlockInContext(m->ctx, k->fn, "body");
  LLVMPositionBuilderAtEnd(k->b, root);
  k->tid32 = LLVMGetParam(k->fn, 0);
  k->threads32 = LLVMGetParam(k->fn, 1);
  k->tid = LLVMBuildZExt(k->b, k->tid32, m->i64, "tid");
  k->threads = LLVMBuildZExt(k->b, k->threads32, m->i64, "threads");
  k->rows = LLVMGetParam(k->fn, 2);
  k->scratch = LLVMGetParam(k->fn, 3);
  k->before[ROOT] = LLVMBuildBr(k->b, k->block);
  k->scope = BODY;
  LLVMPositionBuilderAtEnd(k->b, k->block);
}

typedef void FormStep(Kernel *k);

/* measure: what the kernel needs beside its operands, known before emission. */
static const struct {
  FormStep *measure, *emit;
  unsigned weight; /* of its compilation */
} forms[] = {
    [FORM_map] = {NULL, emit_map, 2},
    [FORM_reduce] = {measure_reduce, emit_reduce, 5},
    [FORM_gemm] = {measure_product, emit_product, 9},
    [FORM_scatter] = {NULL, emit_scatter, 2},
};

static Form form_of(const Module *m, const Node *n) {
  for (int f = FORM_map; f < FORM_COUNT; f++)
    if (!strcmp(node_text(n, AT_form, ""), form_name[f])) return (Form)f;
  ice(m->g, (NodeId)(n - m->g->nodes.at), "cpu: no such kernel form");
}

static void emit(Kernel k, LLVMValueRef fn, FormStep *body) {
  k.fn = fn;
  k.b = LLVMCreateBuilderInContext(k.m->ctx);
  begin(&k);
  body(&k);
  k_go(&k, k.scope);
  LLVMBuildRetVoid(k.b);
  LLVMDisposeBuilder(k.b);
}

/* The part with the least to do takes the kernel; all parts count alike. */
static bool is_mine(Module *m, unsigned weight) {
  unsigned least = 0;
  for (unsigned i = 1; i < m->o->parts; i++)
    if (m->load[i] < m->load[least]) least = i;
  m->load[least] += weight;
  return least == m->part;
}

static KernelFn make(Module *m, const Node *n, const Knows *knows, int64_t batch) {
  Kernel k = {.m = m, .g = m->g, .node = n, .body = &m->g->blocks.at[n->blocks[0]], .batch = batch};
  Form form = form_of(m, n);
  Kernel measured = k;
  if (forms[form].measure) forms[form].measure(&measured);
  KernelFn f = {.fn = declare(m, n, knows, ""),
                .slot_bytes = measured.slot_bytes,
                .scratch_bytes = measured.scratch_bytes};
  if (f.slot_bytes) f.finish = declare(m, n, knows, ".finish");
  bool cold = is_cold(m, n, batch);
  if (cold) leave_unoptimized(m, f.fn);
  if (!is_mine(m, cold ? 1 : forms[form].weight)) return f;
  emit(k, f.fn, forms[form].emit);
  if (f.finish) emit(k, f.finish, emit_finish);
  return f;
}

static KernelFn find_or_make(Module *m, const Node *n, int64_t batch) {
  const Knows *knows = pointers(m, n);
  const char *key = kernel_key(m, n, knows, batch);
  for (uint32_t i = 0; i < m->kernels.len; i++)
    if (m->kernels.at[i].key == key) return m->kernels.at[i];
  KernelFn f = make(m, n, knows, batch);
  f.key = key;
  vec_push(m->arena, &m->kernels, f);
  return f;
}

KernelFn kernel_function(Module *m, NodeId launch, int64_t batch) {
  const Node *n = &m->g->nodes.at[launch];
  const CpuLevel *level = m->level;
  batch = kernel_batch(m->g, launch, batch);
  m->level = level_for(m, n, batch);
  KernelFn f = find_or_make(m, n, batch);
  m->level = level;
  if (f.scratch_bytes > m->scratch_bytes) m->scratch_bytes = f.scratch_bytes;
  return f;
}
